"""One file read: checked while it is read, and cut into portions for COPY. Knows nothing of the warehouse."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from flows.kinds.files.content import Content
from flows.kinds.files.formats import Excel, Parquet
from flows.kinds.files.left import FileProblem
from flows.kinds.files.manifest import Listed
from flows.kinds.files.opening import rows_of
from flows.kinds.files.place import Found, Place
from flows.kinds.files.rows import BLOCKS, BadRow, FormatRows, Rows
from flows.kinds.files.table import FILE, LINE, FileTable, reserved
from flows.kinds.files.values import Values, values_of
from flows.landing.csv import to_csv

#: A file whose rows are no more bytes than this lands together with others.
TOGETHER = 4_000_000
#: More refused rows of a file indicate another format rather than bad rows.
MOST_REFUSED = 10_000


@dataclass(frozen=True, slots=True)
class Portion:
    """Rows as CSV for COPY: those that surely are valid, and those that PostgreSQL is asked about first."""

    sure: bytes
    sure_rows: int
    doubtful: bytes
    doubtful_rows: int

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self.sure) + len(self.doubtful)


@dataclass(frozen=True, slots=True)
class Checks:
    """What a file is held against: what a manifest says of it, how far it may expand, whether all of its rows are
    doubtful because a sure one was refused, and raw's columns that are frozen (None: new ones are added)."""

    listed: Listed | None = None
    max_expansion: int = 200
    careful: bool = False
    frozen: frozenset[str] | None = None


@dataclass(slots=True)
class FileReader:
    """One file under way.

    `columns` are raw's columns of the file, in its order, `types` those that the file gives them; `made` are those of
    its path. `rows` counts all of its rows, bad
    ones as well; `digest` is known at the end.
    """

    place: Place
    found: Found
    table: FileTable
    checks: Checks
    columns: list[str] = field(default_factory=list)
    made: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    rows: int = 0
    size: int = 0
    digest: str = ""
    bad: list[BadRow] = field(default_factory=list)
    _values: list[Values] = field(default_factory=list)

    @property
    def sure_names(self) -> list[str]:
        """The columns of sure rows."""
        return [*self.columns, *self.made, FILE, LINE]

    @property
    def values(self) -> Sequence[Values]:
        """How the file's own columns are read."""
        return self._values

    def portions(self, block: int = BLOCKS[0]) -> Iterator[Portion]:
        """The file's rows; the last step checks the file as a whole.

        Raises:
            FileProblem: nothing of the file may be loaded.
            RowTooLong: a row needs a larger block.
        """
        self.made = self.table.pattern.of(self.found.at) or {}
        with contextlib.ExitStack() as opened:
            try:
                seeks = isinstance(self.table.format, Excel | Parquet)
                opening = self.place.seekable(self.found) if seeks else self.place.opened(self.found)
                file = opened.enter_context(opening)
            except OSError as problem:
                raise FileProblem(f"it cannot be opened ({problem.strerror})") from None
            content = Content(file, self.table.format.written, self.checks.max_expansion)
            reader = rows_of(self.table, content, file, self.found.size, self.checks.max_expansion)
            self._name_columns(reader)
            yield Portion(b"", 0, b"", 0)  # its columns are known now
            for rows in reader.batches(block):
                if len(reader.bad) > MOST_REFUSED:
                    raise FileProblem(f"more than {MOST_REFUSED:,} of its rows do not have its columns")
                yield self._portion(rows, quoted=content.has_quote)
            self.bad, self.rows, self.size = reader.bad, reader.rows, content.size or self.found.size
            if seeks:
                file.seek(0)  # it was read here and there
            self.digest = content.raw.digest()
            self._refuse_contradictions(content.raw.size)

    def _name_columns(self, reader: FormatRows) -> None:
        table = self.table
        self.columns = [table.headers.get(name, name) for name in reader.header(table.named)]
        self.types = {table.headers.get(name, name): kind for name, kind in reader.types.items()}
        if wrong := [name for name in self.columns if reserved(name) or name in self.made]:
            raise FileProblem(f"raw cannot have its column {', '.join(map(repr, wrong))}: rename it by headers={{…}}")
        if doubled := sorted({name for name in self.columns if self.columns.count(name) > 1}):
            raise FileProblem(f"two of its columns are {', '.join(doubled)}")
        if missing := [name for name in table.expected if name not in self.columns]:
            raise FileProblem(f"it lacks column {', '.join(missing)}")
        if self.checks.frozen is not None and (new := [c for c in self.columns if c not in self.checks.frozen]):
            raise FileProblem(f"it has new column {', '.join(new)}, and the table's columns are frozen")
        self._values = values_of(table, self.columns, self.types)

    def _portion(self, rows: Rows, *, quoted: bool) -> Portion:
        import numpy as np
        import pyarrow as pa

        batch = rows.batch
        texts = [one.texts(column, quoted=quoted) for one, column in zip(self._values, batch.columns, strict=True)]
        sure = np.full(batch.num_rows, not self.checks.careful)
        for one, column in zip(self._values, texts, strict=True):
            if sure.any() and (found := one.surely(column)) is not None:
                sure &= found.to_numpy(zero_copy_only=False)
        made = [pa.repeat(pa.scalar(value, pa.string()), batch.num_rows) for value in self.made.values()]
        own = [*texts, *made, pa.repeat(pa.scalar(self.found.path, pa.string()), batch.num_rows), rows.lines]
        whole = pa.record_batch(own, names=[str(place) for place in range(len(own))])
        if sure.all():
            return Portion(to_csv(whole), batch.num_rows, b"", 0)
        kept = [c for one, c in zip(self._values, batch.columns, strict=True) if one.keeps_original]
        asked = pa.record_batch([*own, *kept], names=[str(place) for place in range(len(own) + len(kept))])
        mask = pa.array(sure)
        doubtful = asked.filter(pa.array(~sure))
        good = whole.filter(mask)
        return Portion(to_csv(good) if good.num_rows else b"", good.num_rows, to_csv(doubtful), doubtful.num_rows)

    def _refuse_contradictions(self, size: int) -> None:
        now = self.place.look(self.found.at)
        if now is None or now.signature != self.found.signature or size != self.found.size:
            raise FileProblem("it changed while it was read", waits=True)
        if self.checks.listed is not None and not self.found.archive:
            self.checks.listed.hold_against(size, self.rows, self.digest)


def read_up_to(portions: Iterator[Portion], most: int) -> tuple[list[Portion], bool]:
    """Portions until they are more bytes than `most`; and whether these are all."""
    taken, size = [], 0
    for portion in portions:
        taken.append(portion)
        size += portion.size
        if size > most:
            return taken, False
    return taken, True
