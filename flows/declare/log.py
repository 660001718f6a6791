"""Changes captured from a database's write-ahead log (WAL), declared of a source."""

from __future__ import annotations

from dataclasses import dataclass

from flows.declare.budget import Budget
from flows.declare.load import Merge, Replace
from flows.declare.table import Table
from flows.values.errors import DeclarationError
from flows.values.identifiers import require_plain


@dataclass(frozen=True, slots=True)
class Log:
    """Read changes from PostgreSQL's WAL instead of the tables.

        Database("shop", connection="shop", capture=Log(), tables=[…])

    `slot` and `publication` are names at the source; by default both are `medallion_<source>_<oid of the database>`,
    because slots of all databases of a server share their names. `max_retained`: beyond so many bytes of WAL, the next
    load advances the slot instead of reading it, and compares the tables with the source. Only `max_slot_wal_keep_size`
    at the source protects its disk while no load runs.

    Raises:
        DeclarationError: a name is not plain, or the limit is not a size.
    """

    slot: str | None = None
    publication: str | None = None
    max_retained: int | str = "10 GB"

    def __post_init__(self) -> None:
        for name in (self.slot, self.publication):
            if name is not None:
                require_plain(name, "slot or publication", "capture")
        if not self.limit:
            raise DeclarationError(
                "max_retained limits nothing", where="capture", fix='write Log(max_retained="10 GB")'
            )

    @property
    def limit(self) -> int:
        """`max_retained` in bytes."""
        return Budget(bytes=self.max_retained).size or 0


def refuse_uncapturable(table: Table, where: str) -> None:
    """Raises:
    DeclarationError: the log cannot bring the table as it is declared.
    """
    problem = None
    if not table.keys:
        problem = (
            "has no key, and a change names its row by the key",
            'add key="…", or declare it in a source of its own',
        )
    elif not isinstance(table.load, Merge | Replace):
        problem = (
            "is not loaded by Merge() or Replace(), and the log brings the current version of each row",
            ("use load=Merge()"),
        )
    elif table.query or table.where:
        problem = "is a query or has a condition, and the log brings rows of tables", "remove query and where"
    elif table.masked:
        problem = (
            "has masked columns, and the log has the values themselves",
            ("name them in exclude, or declare the table in a source without capture"),
        )
    elif table.sees_a_part:
        problem = "has sees_a_part, and the log has all rows", "remove sees_a_part"
    if problem is not None:
        raise DeclarationError(f"capture=Log(): table {table.name} {problem[0]}", where=where, fix=problem[1])
