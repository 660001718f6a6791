"""`medallion add files`: a declaration drafted from a file, whose types hold for every row of it."""

from __future__ import annotations

import csv as text_csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.kinds.files.content import Content
from flows.kinds.files.csv_rows import CsvRows
from flows.kinds.files.folder import LocalFolder
from flows.kinds.files.formats import Csv
from flows.kinds.files.left import FileProblem
from flows.kinds.files.pattern import Pattern
from flows.kinds.files.rows import BLOCKS, RowTooLong
from flows.kinds.files.types import type_of
from flows.values.errors import DeclarationError

_DELIMITERS = ",;\t|"
_SAMPLE = 1 << 16
_BLOCK = 1 << 20
_PLAIN_NAME = re.compile(r"[^a-z0-9]+")
#: From narrow to wide; the first that holds for every value is taken.
_CANDIDATES = (
    "bigint",
    "numeric",
    "date",
    "timestamp without time zone",
    "timestamp with time zone",
    "boolean",
    "uuid",
)
#: A number with a leading zero, or with more digits than a number needs, is a code: 0012 is no 12.
_CODE = re.compile(r"[+-]?0\d|\d{16}")
_FEW = 0.01


def draft_files(name: str, path: str) -> str:
    """A declaration as Python, for a file of delimited text, read in full.

    Raises:
        DeclarationError: there is no such file, or nothing can be drafted from it.
    """
    file = Path(path).absolute()
    if not file.is_file():
        raise DeclarationError(f"{path} is no file", where=name, fix="name one of the files that are dropped")
    csv = _dialect(file, name)
    try:
        names, seen, rows, bad = _read(file, csv)
    except (FileProblem, RowTooLong) as problem:
        said = problem.reason if isinstance(problem, FileProblem) else "a row is too long: a quote is missing"
        raise DeclarationError(
            f"nothing can be drafted from it: {said}", where=path, fix="correct the file, or write the declaration"
        ) from None
    return _written(name, file, csv, [_Column(one, seen[place]) for place, one in enumerate(names)], (rows, bad))


class _Seen:
    """What the values of a column look like, over all rows."""

    def __init__(self) -> None:
        self.fits: Counter[str] = Counter()
        self.values = self.codes = 0

    def add(self, column: Any) -> None:
        """The values of a block."""
        import pyarrow.compute as pc

        column = column.drop_null()
        self.values += len(column)
        for kind in _CANDIDATES:
            found = pc.match_substring_regex(column, f"^(?:{_plain(kind)})$")
            self.fits[kind] += int(pc.sum(found).as_py() or 0)
        self.codes += int(pc.sum(pc.match_substring_regex(column, f"^(?:{_CODE.pattern})")).as_py() or 0)


class _Column:
    """A column's drafted type, and what contradicts another that nearly holds."""

    def __init__(self, name: str, seen: _Seen) -> None:
        self.name = name
        self.type, self.note = "text", ""
        for kind in _CANDIDATES:
            share = seen.fits[kind] / seen.values if seen.values else 0.0
            if kind in ("bigint", "numeric") and share == 1 and seen.codes:
                self.note = f"{seen.codes:,} values begin with a zero or are very long: codes, not numbers"
                return
            if share == 1:
                self.type = kind.replace(" without time zone", "").replace("timestamp with time zone", "timestamptz")
                return
            if share >= 1 - _FEW and not self.note:
                others = seen.values - seen.fits[kind]
                self.note = f"{kind}, but for {others:,} of {seen.values:,} values"
        if not seen.values:
            self.note = "no value"


def _plain(kind: str) -> str:
    from flows.kinds.files.types import OFFSET

    own = type_of(kind)
    if kind == "boolean":
        return "(?i:true|false|t|f|yes|no)"  # ones and zeros are numbers
    return own.plain + (OFFSET if own.has_zone else "")


def _dialect(file: Path, name: str) -> Csv:
    """By the first lines: the encoding, and the delimiter that divides them most evenly."""
    place = LocalFolder(file.parent)
    found = place.look(file.name)
    if found is None:
        raise DeclarationError(f"{file.name} cannot be read", where=name, fix="check its rights")
    for encoding in ("utf-8", "utf-16", "cp1252"):
        with place.opened(found) as opened:
            content = Content(opened, Csv(encoding=encoding), 200)
            try:
                sample = content.read(_SAMPLE).decode("utf-8")
            except (FileProblem, UnicodeDecodeError):
                continue
        if content.is_not_utf8 or (encoding == "utf-16" and sample.isascii() is False and "," not in sample):
            continue
        lines = [line for line in sample.splitlines()[:50] if line]
        return Csv(delimiter=_delimiter(lines), encoding=encoding)
    raise DeclarationError("its encoding is unknown", where=name, fix="declare Csv(encoding=…)")


def _delimiter(lines: Sequence[str]) -> str:
    def evenness(delimiter: str) -> tuple[float, int]:
        widths = [len(row) for row in text_csv.reader(lines, delimiter=delimiter)]
        width, times = Counter(widths).most_common(1)[0] if widths else (1, 0)
        return (times / len(widths) if width > 1 else 0.0, width)

    return max(_DELIMITERS, key=evenness)


def _read(file: Path, csv: Csv) -> tuple[list[str], list[_Seen], int, int]:
    place = LocalFolder(file.parent)
    found = place.look(file.name)
    assert found is not None  # its dialect was read
    for block in BLOCKS:
        with place.opened(found) as opened:
            reader = CsvRows(Content(opened, csv, 200), csv)
            names = reader.header([])
            seen = [_Seen() for _ in names]
            try:
                for rows in reader.batches(block):
                    for one, column in zip(seen, rows.batch.columns, strict=True):
                        one.add(column)
            except RowTooLong:
                if block == BLOCKS[-1]:
                    raise
                continue
            return names, seen, reader.rows, len(reader.bad)
    raise RowTooLong


def _written(name: str, file: Path, csv: Csv, columns: Sequence[_Column], counts: tuple[int, int]) -> str:
    table = _PLAIN_NAME.sub("_", re.sub(r"\d+", "", file.name.partition(".")[0].lower())).strip("_") or "rows"
    table = table if table[0].isalpha() else f"t_{table}"
    pattern = re.sub(r"\d{4}-\d\d-\d\d", "{file_day:%Y-%m-%d}", file.name, count=1)
    pattern = re.sub(r"(?<![\d%])\d+(?![\d}])", "*", pattern) if pattern == file.name else pattern
    Pattern(pattern)
    options = [f'{key}="{value}"' for key, value, default in (
        ("delimiter", csv.delimiter.replace("\t", "\\t"), ","), ("encoding", csv.encoding, "utf-8")
    ) if value != default]  # fmt: skip
    rows, bad = counts
    refused = f" # {bad:,} of {rows:,} rows do not have these columns" if bad else ""
    lines = [
        f'"""Files like {file.name}: drafted from its {rows:,} rows."""',
        "",
        "from flows.declare import Append",
        "from flows.kinds.files import Csv, Files, FileTable, Settled",
        "",
        f"{name} = Files(",
        f'    "{name}",',
        f'    connection="{name}",  # MEDALLION_SOURCE_{name.upper()}_URL={file.parent}',
        '    ready=Settled("30 s"),',
        "    tables=[",
        "        FileTable(",
        f'            "{table}",',
        f'            match="{pattern}",',
        "            load=Append(),  # or Merge(), with key=…",
        f"            format=Csv({', '.join(options)}),{refused}",
        "            columns={",
        *(
            f'                {_quoted(one.name)}: "{one.type}",' + (f"  # {one.note}" if one.note else "")
            for one in columns
        ),
        "            },",
        "        ),",
        "    ],",
        ")",
        "",
    ]
    return "\n".join(lines)


def _quoted(name: str) -> str:
    import json

    return json.dumps(name, ensure_ascii=False)
