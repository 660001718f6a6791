"""`medallion preview`: the first rows of the newest file, as a load would read them."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator

from flows.kinds.answers import Preview
from flows.kinds.files.archives import with_members
from flows.kinds.files.declared import Files
from flows.kinds.files.left import FileProblem, Left, in_words
from flows.kinds.files.parse import Checks, FileReader
from flows.kinds.files.place import Place
from flows.kinds.files.rows import BLOCKS, RowTooLong
from flows.kinds.files.table import LINE, FileTable
from flows.values.errors import SourceError


def look(place: Place, source: Files, table: FileTable, count: int) -> Preview:
    """The first `count` rows of the newest file that matches, masked as they are loaded. Writes nothing.

    Raises:
        SourceError: no file matches, or the newest cannot be read.
    """
    where, left = f"{source.name}.{table.name}", list[Left]()
    found = place.matching(table.pattern, left)
    files = with_members(place, found, table.members, source.max_expansion, left)
    if not files:
        raise SourceError(
            in_words(left) or f"no file matches {table.match}",
            where=where,
            fix="check match in the declaration, and the path in the connection URL",
        )
    reader = FileReader(place, files[-1], table, Checks(max_expansion=source.max_expansion))
    try:
        # The first portion says which columns there are.
        portions = list(itertools.islice(reader.portions(BLOCKS[-1]), 2))
    except FileProblem as problem:
        raise SourceError(f"{files[-1].path}: {problem.reason}", where=where, fix="look at the file") from None
    except RowTooLong:
        raise SourceError(f"{files[-1].path}: a row is too long", where=where, fix="look at the file") from None
    kept = [one.name for one in reader.values if one.keeps_original]
    shown = [dict(zip(reader.sure_names, row, strict=True)) for row in _rows(portion.sure for portion in portions)]
    for row in _rows(portion.doubtful for portion in portions):
        # What is not written as declared is shown as the file has it, and so it comes into quarantine.
        originals = dict(zip(kept, row[len(reader.sure_names) :], strict=True))
        shown.append(dict(zip(reader.sure_names, row, strict=False)) | originals)
    shown.sort(key=lambda row: int(row[LINE]))
    records = [json.dumps(row, ensure_ascii=False) for row in shown[:count]]
    facts = [("file", table.match, files[-1].path), ("files", "", f"{len(files):,} match")]
    if said := in_words(left):
        facts.append(("skipped", "", said))
    kinds = {one.name: one.raw_type for one in reader.values} | table.pattern.columns
    return Preview([record.encode() for record in records], kinds, facts)


def _rows(portions: Iterable[bytes]) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(b"".join(portions).decode("utf-8"), newline=""))
