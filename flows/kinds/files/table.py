"""The tables that are made of a folder's files. Literals only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from flows.declare.ask import Ask, refuse_ask
from flows.declare.budget import Budget, refuse_budget
from flows.declare.freshness import Freshness, refuse_freshness
from flows.declare.load import Append, Merge, Overwrite, Replace
from flows.declare.mask import Hashed, Mask, refuse_masks
from flows.declare.refusals import refuse_repeats
from flows.declare.rule import OnDuplicate, Rule, Tolerance, refuse_unknown_reaction
from flows.declare.table import OnDrift
from flows.kinds.files.formats import Csv, Excel, FixedWidth, Format, JsonLines, Parquet
from flows.kinds.files.pattern import Pattern
from flows.kinds.files.types import raw_type
from flows.values.errors import DeclarationError
from flows.values.identifiers import require_plain
from flows.values.shape import METADATA_NAMES

SameName = Literal["replace", "add", "refuse"]
Vanished = Literal["keep", "delete"]

#: On every row: the file that it is from, and the line there on which it begins.
FILE, LINE = "_file", "_line"
#: The column of records as they are.
PAYLOAD = "payload"
_LONGEST_NAME = 63


@dataclass(frozen=True, slots=True)
class FileTable:
    """One table, made of the files whose paths match.

        FileTable("prices", match="prices/*.csv", key="sku", load=Merge(), columns={"sku": "text", "price": "numeric"})
        FileTable("stock", match="stock-{day:%Y%m%d}.csv.gz", load=Replace())        the newest file is the table

    `match` is a pattern of paths under the connection URL: see `Pattern`. Parts in braces become columns.
    `columns` are types by name; a column that is not named there is text. `headers` gives columns other names than
    their headers: `headers={"Betrag (EUR)": "amount"}`. A file that lacks a declared column is skipped, unless
    `optional` names it; one with a new column adds it (`on_drift="evolve"`), or is skipped ("freeze").
    `members` is a pattern of the names of members that are read of a zip archive: each is a file of its own.
    `load`: Merge and Append take the rows of each new file; Replace makes the table what the newest file holds, in the
    order of the dates in the paths, and then of the paths.
    `same_name` is what becomes of new content under a known name: "replace" puts its rows in the place of the former
    ones, "add" loads it like another file, "refuse" skips it.
    `vanished` is what becomes of rows whose file is gone: "keep", or "delete", which marks them as deleted (without a
    key: removes them). `max_deleted` (a share, 0 to 1) stops a load that would delete more of the rows at once.
    The other options are as for tables of a Database.
    """

    name: str
    match: str
    load: Replace | Append | Merge
    format: Format = field(default_factory=Csv)
    key: str | tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    optional: tuple[str, ...] = ()
    members: str = "*"
    same_name: SameName = "replace"
    vanished: Vanished = "keep"
    masked: Mapping[str, Mask] = field(default_factory=dict, hash=False)
    on_drift: OnDrift = "evolve"
    rules: tuple[Rule, ...] = ()
    max_quarantined: float = 0.0
    quarantine_floor: int = 5
    max_deleted: float = 0.5
    on_duplicate: OnDuplicate = "quarantine"
    may_be_empty: bool = False
    description: str = ""
    freshness: Freshness | None = None
    budget: Budget | None = None
    on_refusal: Ask | None = None
    cursor: None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The key's columns, in order."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    @property
    def pattern(self) -> Pattern:
        """The pattern of its paths."""
        return Pattern(self.match)

    @property
    def deletes(self) -> bool:
        """Whether a load notices that rows are gone."""
        return self.same_name == "replace" or self.vanished == "delete"

    @property
    def tolerance(self) -> Tolerance:
        """How many rows of a read may break row checks."""
        return Tolerance(self.max_quarantined, self.quarantine_floor)

    @property
    def hashes(self) -> bool:
        """Whether a column is hashed, for which a key is needed."""
        return any(isinstance(mask, Hashed) for mask in self.masked.values())

    @property
    def expected(self) -> tuple[str, ...]:
        """The columns that a file must have."""
        return tuple(name for name in self.named if name not in self.optional)

    @property
    def named(self) -> list[str]:
        """The columns that are declared, in order, without those of the path."""
        made = self.pattern.columns
        own = self.format.columns if isinstance(self.format, FixedWidth) else ()
        named = dict.fromkeys([*self.columns, *own, *self.keys, *self.masked])
        return [name for name in named if name not in made]

    @property
    def payload(self) -> str | None:
        """The column that has each record as it is; None without one."""
        return PAYLOAD if isinstance(self.format, JsonLines) and self.format.payload else None

    def raw_type(self, column: str) -> str:
        """The column's type in raw."""
        if column in self.masked:
            return "text"
        if column == self.payload:
            return "jsonb"
        declared = self.columns.get(column) or self.pattern.columns.get(column) or "text"
        return raw_type(declared) or declared

    def __post_init__(self) -> None:
        where = f"table {self.name}"
        require_plain(self.name, "table", where)
        for name in ("columns", "headers", "masked"):
            object.__setattr__(self, name, dict(getattr(self, name)))
        if not isinstance(self.format, Csv | Excel | FixedWidth | JsonLines | Parquet):
            raise DeclarationError(
                f"format={self.format!r} is unknown",
                where=where,
                fix="use Csv(…), Excel(…), FixedWidth(…), JsonLines(…) or Parquet() of flows.kinds.files",
            )
        made = self.pattern.columns
        if isinstance(self.load, Merge) and not self.keys:
            raise DeclarationError(
                "a merge needs a key, because rows are matched on it", where=where, fix='add key="…", or load=Append()'
            )
        if isinstance(self.load, Overwrite) or not isinstance(self.load, Replace | Append | Merge):
            raise DeclarationError(
                f"load={self.load!r} is not supported for files", where=where, fix="use Merge(), Append() or Replace()"
            )
        if isinstance(self.load, Replace) and self.vanished == "delete":
            raise DeclarationError(
                "a replace makes the table what the newest file holds, whatever became of the others",
                where=where,
                fix='remove vanished="delete"',
            )
        self._refuse_columns(where, made)
        for value, allowed, what in (
            (self.same_name, SameName, "same_name"), (self.vanished, Vanished, "vanished"),
            (self.on_drift, OnDrift, "on_drift"),
        ):  # fmt: skip
            if value not in get_args(allowed) or value == "quarantine":
                known = [one for one in get_args(allowed) if one != "quarantine"]
                raise DeclarationError(
                    f"{what} {value!r} is not supported for files", where=where, fix=f"use {', '.join(known)}"
                )
        if not 0 <= self.max_deleted <= 1:
            raise DeclarationError(
                f"max_deleted must be between 0 and 1, not {self.max_deleted}",
                where=where,
                fix="write 0.1 for one row in ten, or 1 to allow any number of deletes",
            )
        self.tolerance.refuse_nonsense(where)
        refuse_freshness(self.freshness, where)
        refuse_budget(self.budget, where)
        refuse_ask(self.on_refusal, where)
        refuse_unknown_reaction(self.on_duplicate, where)
        refuse_repeats([rule.name for rule in self.rules], "rule", where)
        refuse_repeats(list(self.keys), "key column", where)
        refuse_masks(self.masked, self.keys, (), (), where)

    def _refuse_columns(self, where: str, made: Mapping[str, str]) -> None:
        for name, declared in self.columns.items():
            if raw_type(declared) is None:
                raise DeclarationError(
                    f"the type {declared!r} of column {name} is unknown",
                    where=where,
                    fix="use text, bigint, integer, smallint, numeric, numeric(14,2), double precision, boolean, date, "
                    "time, timestamp, timestamptz, uuid or jsonb",
                )
        refuse_repeats([*self.headers.values()], "column of headers", where)
        named = [*self.columns, *self.keys, *self.headers.values(), *self.masked, *self.optional]
        for name in [*named, *made]:
            if reserved(name):
                raise DeclarationError(
                    f"raw cannot have a column {name!r}: the name is reserved, empty or longer than 63 bytes",
                    where=where,
                    fix='give it another name: headers={"…": "another"}',
                )
        if both := [name for name in made if name in (*self.columns, *self.headers.values())]:
            raise DeclarationError(
                f"column {', '.join(both)} is a part of the path and a column of the files",
                where=where,
                fix="give the part of the path another name",
            )
        if lost := [name for name in self.keys if name in self.optional]:
            raise DeclarationError(
                f"column {', '.join(lost)} of the key is optional", where=where, fix="remove it from optional"
            )
        if self.payload in named or (self.payload is not None and self.masked):
            raise DeclarationError(
                "a column is named payload, or is masked beside the payload, which has its value",
                where=where,
                fix="write format=JsonLines(payload=False)",
            )
        if not isinstance(self.format, Csv | Excel | Parquet) and self.headers:
            raise DeclarationError(
                "headers is for files that have some", where=where, fix="name the columns in format and columns"
            )
        if isinstance(self.format, FixedWidth) and (more := set(named) - set(self.format.columns) - {*made}):
            raise DeclarationError(
                f"column {', '.join(sorted(more))} has no place in the lines",
                where=where,
                fix="add it to the columns of FixedWidth(…)",
            )
        if isinstance(self.format, Csv) and self.format.header != "by_name" and (not self.columns or self.headers):
            raise DeclarationError(
                "files whose headers do not name the columns need columns in their order, and no headers",
                where=where,
                fix='write columns={"first": "text", …}',
            )


def reserved(name: str) -> bool:
    """Whether raw cannot have a column of that name."""
    taken = name in METADATA_NAMES or name in (FILE, LINE)
    return taken or not name or "\0" in name or len(name.encode()) > _LONGEST_NAME
