"""A source database: its engine, connection and tables."""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import Literal, get_args

from flows.declare.ask import Ask, refuse_ask
from flows.declare.budget import Budget, refuse_budget
from flows.declare.cursor import TransactionId
from flows.declare.freshness import Freshness, refuse_freshness
from flows.declare.load import Overwrite
from flows.declare.log import Log, refuse_uncapturable
from flows.declare.refusals import refuse_repeats, unknown_table
from flows.declare.table import Table
from flows.declare.triggers import Triggers, refuse_untriggered
from flows.values.errors import DeclarationError
from flows.values.identifiers import require_plain

Engine = Literal["postgresql", "mysql", "sqlite", "mssql"]
"""The database engine of a source; `mysql` includes MariaDB."""


@dataclass(frozen=True, slots=True)
class Database:
    """A source database.

        Database("shop", connection="shop", tables=[…])                  PostgreSQL
        Database("erp", connection="erp", engine="mysql", tables=[…])    MySQL or MariaDB; see docs/other-databases.md

    `connection` names it in the environment (MEDALLION_SOURCE_<CONNECTION>_URL) and among the blocks
    (source-<connection>). `schedule` is a cron expression in UTC. `max_parallel` bounds the tables loaded in parallel.
    `freshness` is how fresh its tables must be, `budget` what all loads of a run may read together.
    `on_refusal=Ask()` has a person decide before a load is refused. `capture=Log()` reads changes from PostgreSQL's
    log instead of the tables, `capture=Triggers()` has triggers record them; see docs/capture.md.
    """

    name: str
    connection: str
    tables: SequenceOf[Table]
    schedule: str | None = None
    max_parallel: int = 4
    description: str = ""
    engine: Engine = "postgresql"
    freshness: Freshness | None = None
    budget: Budget | None = None
    on_refusal: Ask | None = None
    capture: Log | Triggers | None = None

    @property
    def kind(self) -> str:
        """The folder in flows/kinds with its implementation."""
        if self.capture is not None:
            return "captured" if isinstance(self.capture, Triggers) else "changelog"
        return "postgres" if self.engine == "postgresql" else "databases"

    @property
    def raw_schema(self) -> str:
        """The schema of its raw tables: `raw_shop`."""
        return f"raw_{self.name}"

    def __post_init__(self) -> None:
        where = f"source {self.name}"
        require_plain(self.name, "source", where)
        require_plain(self.connection, "connection", where)
        refuse_freshness(self.freshness, where)
        refuse_budget(self.budget, where)
        refuse_ask(self.on_refusal, where)
        if not self.tables:
            raise DeclarationError("no tables", where=where, fix="declare at least one Table")
        refuse_repeats([table.name for table in self.tables], "table", where)
        if self.engine not in get_args(Engine):
            raise DeclarationError(
                f"engine {self.engine!r} is unknown",
                where=where,
                fix=f"use one of {', '.join(get_args(Engine))}; MariaDB is mysql",
            )
        if self.engine != "postgresql" and (named := [table.name for table in self.tables if table.sees_a_part]):
            raise DeclarationError(
                f"sees_a_part ({', '.join(named)}) is supported for PostgreSQL only",
                where=where,
                fix="remove sees_a_part",
            )
        if self.engine != "postgresql" and (
            named := [table.name for table in self.tables if isinstance(table.cursor, TransactionId)]
        ):
            raise DeclarationError(
                f"transaction-id cursors ({', '.join(named)}) are supported for PostgreSQL only",
                where=where,
                fix="use Timestamp(…) or Sequence(…), or no cursor",
            )
        if self.engine != "postgresql" and (
            named := [table.name for table in self.tables if isinstance(table.load, Overwrite)]
        ):
            raise DeclarationError(
                f"load=Overwrite() is supported for PostgreSQL only ({', '.join(named)} of {self.engine})",
                where=where,
                fix="use load=Merge() with a cursor, or load=Replace()",
            )
        if self.engine != "postgresql" and (named := [table.name for table in self.tables if table.query]):
            raise DeclarationError(
                f"a query as a table ({', '.join(named)}) is supported for PostgreSQL only",
                where=where,
                fix="create a view at the source, and declare the view",
            )
        if self.capture is not None:
            self._refuse_capture(where)
        object.__setattr__(self, "tables", tuple(self.tables))

    def _refuse_capture(self, where: str) -> None:
        if not isinstance(self.capture, Log | Triggers):
            raise DeclarationError(
                "capture is not a Log and not Triggers", where=where, fix="write capture=Log() or capture=Triggers()"
            )
        if isinstance(self.capture, Triggers):
            if self.engine not in ("postgresql", "mysql"):
                raise DeclarationError(
                    f"capture=Triggers() is for PostgreSQL, MySQL and MariaDB, and the engine is {self.engine}",
                    where=where,
                    fix="remove capture; the tables are then loaded by their cursors",
                )
            for table in self.tables:
                refuse_untriggered(table, where)
            return
        if self.engine != "postgresql":
            raise DeclarationError(
                f"capture=Log() reads PostgreSQL's log, and the engine is {self.engine}",
                where=where,
                fix="for MySQL and MariaDB, write capture=Triggers(); or remove capture",
            )
        for table in self.tables:
            refuse_uncapturable(table, where)

    def table(self, name: str) -> Table:
        """The declared table of that name.

        Raises:
            DeclarationError: it does not exist; the message lists the declared ones.
        """
        for table in self.tables:
            if table.name == name:
                return table
        raise unknown_table(self.name, name, [table.name for table in self.tables])
