"""Changes captured by triggers, declared of a source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from flows.declare.budget import Budget
from flows.declare.load import Merge, Replace
from flows.declare.table import Table
from flows.values.errors import DeclarationError

Per = Literal["statement", "row"]
"""How often a trigger runs."""


@dataclass(frozen=True, slots=True)
class Triggers:
    """Record the keys of changed rows by triggers, in a change table at the source; rows are read by these keys.

        Database("shop", connection="shop", capture=Triggers(), tables=[…])

    `max_waiting`: when the change table of a table is larger than so many bytes, its triggers stop to record, and the
    next load reads the table in full: a pipeline that is down does not fill the source's disk.
    `per="row"` has PostgreSQL run them for each row instead of each statement: cheaper if nearly all writes are updates
    of single rows. Partitioned tables, tables that a logical subscription writes, MySQL and MariaDB always have row
    triggers.

    Raises:
        DeclarationError: the limit is not a size, or `per` is unknown.
    """

    max_waiting: int | str = "1 GB"
    per: Per = "statement"

    def __post_init__(self) -> None:
        if not self.limit:  # also refuses what is no size
            raise DeclarationError(
                "max_waiting limits nothing", where="capture", fix='write Triggers(max_waiting="1 GB")'
            )
        if self.per not in get_args(Per):
            raise DeclarationError(
                f"per={self.per!r} is unknown", where="capture", fix='write per="statement" or per="row"'
            )

    @property
    def limit(self) -> int:
        """`max_waiting` in bytes."""
        return Budget(bytes=self.max_waiting).size or 0


def refuse_untriggered(table: Table, where: str) -> None:
    """Raises:
    DeclarationError: triggers cannot bring the table as it is declared.
    """
    problem = None
    if not table.keys:
        problem = (
            "has no key, and triggers record the keys of changed rows",
            'add key="…", or declare it in a source of its own',
        )
    elif not isinstance(table.load, Merge | Replace):
        problem = (
            "is not loaded by Merge() or Replace(), and captured rows are the current version of each row",
            "use load=Merge()",
        )
    elif table.query:
        problem = "is a query, and only tables have triggers", "declare the tables that it reads"
    if problem is not None:
        raise DeclarationError(f"capture=Triggers(): table {table.name} {problem[0]}", where=where, fix=problem[1])
