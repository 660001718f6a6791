"""A database that we read, and its tables."""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import Literal, get_args

from flows.declare.cursor import Sequence, Timestamp, TransactionId
from flows.declare.load import Append, Merge, Overwrite, Replace
from flows.declare.refusals import refuse_repeats, unknown_table
from flows.declare.rule import Rule, Tolerance
from flows.values.errors import DeclarationError
from flows.values.identifiers import require_plain

Engine = Literal["postgresql", "mysql", "sqlite", "mssql"]
"""What a source database runs on; `mysql` is MariaDB too."""


OnDrift = Literal["evolve", "freeze", "quarantine"]
"""What happens when a table's columns change at the source."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a database.

        Table("products", key="product_id", load=Replace())
        Table("baskets", key="basket_id", cursor=Timestamp("updated_at", lag="10 min"), load=Merge(), deletes=True)
        Table("household_events", key="event_id", cursor=Sequence("event_id"), load=Append())
        Table("sales", load=Overwrite(by="sold_at", every="month", last=3))

    `key` is a column or several. `deletes` compares key sets after each read and marks rows gone from the source.
    `rules` guard the door; when more than `max_quarantined` (a share, 0 to 1) of a read's rows break one, the load
    stops and nothing is published; a small read may quarantine `quarantine_floor` rows whatever its share, up to a
    quarter of it. `schema` is the table's schema at the source.
    `max_deleted` (a share, 0 to 1) stops a load with `deletes` that would mark more of raw's rows as deleted at once;
    tables with fewer than 100 rows in raw are exempt.
    `on_drift` says what a change of the source's columns does: "evolve" takes in new columns and wider types, and
    refuses what could change values; "freeze" refuses every change; "quarantine" leaves raw's columns as they are and
    goes on with the rows that fit them, the others wait in quarantine, up to `max_quarantined`.
    `as_text` names columns of a database that is not PostgreSQL which hold values that their type in raw cannot (zero
    dates, words in a column of numbers): they travel as text.
    """

    name: str
    load: Replace | Append | Merge | Overwrite
    key: str | tuple[str, ...] = ()
    cursor: Timestamp | Sequence | TransactionId | None = None
    deletes: bool = False
    rules: tuple[Rule, ...] = ()
    max_quarantined: float = 0.0
    quarantine_floor: int = 5
    max_deleted: float = 0.5
    schema: str = "public"
    description: str = ""
    as_text: tuple[str, ...] = ()
    on_drift: OnDrift = "evolve"

    @property
    def tolerance(self) -> Tolerance:
        """How many rows of a read may break rules."""
        return Tolerance(self.max_quarantined, self.quarantine_floor)

    @property
    def keys(self) -> tuple[str, ...]:
        """The key's columns, in order."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    @property
    def cursor_column(self) -> str | None:
        """The source's column that the cursor follows; None without a cursor, or for one that needs no column."""
        return None if self.cursor is None or isinstance(self.cursor, TransactionId) else self.cursor.column

    @property
    def named_columns(self) -> tuple[str, ...]:
        """The source's columns that a load cannot do without: key, cursor, and what divides an overwritten table."""
        named = [*self.keys, *([] if self.cursor_column is None else [self.cursor_column])]
        return tuple(dict.fromkeys([*named, *([self.load.by] if isinstance(self.load, Overwrite) else [])]))

    def __post_init__(self) -> None:
        where = f"table {self.name}"
        require_plain(self.name, "table", where)
        match self.load:
            case Merge() if not self.keys:
                raise DeclarationError(
                    "a merge needs a key, because rows are matched on it", where=where, fix='add key="…"'
                )
            case Append() if self.cursor is None:
                raise DeclarationError(
                    "an append needs a cursor, because without one every run would add every row again",
                    where=where,
                    fix="add cursor=Sequence(…) or cursor=Timestamp(…), or use load=Replace()",
                )
            case Append() if isinstance(self.cursor, Timestamp) and self.cursor.overlap and not self.keys:
                raise DeclarationError(
                    "an append with a lag reads rows twice, and without a key it could not tell them apart",
                    where=where,
                    fix='add key="…" or use load=Merge()',
                )
            case Append() if isinstance(self.cursor, Sequence) and self.cursor.lag and not self.keys:
                raise DeclarationError(
                    "an append with a lag reads rows twice, and without a key it could not tell them apart",
                    where=where,
                    fix='add key="…" or use load=Merge()',
                )
            case Replace() if self.cursor is not None:
                raise DeclarationError(
                    "a replace reads the whole table, so a cursor would never be used",
                    where=where,
                    fix="remove the cursor, or use load=Merge()",
                )
            case _:
                pass
        # An overwrite writes whole partitions: it need not tell rows apart.
        told_apart = bool(self.keys) or isinstance(self.load, Overwrite)
        if not told_apart and isinstance(self.cursor, Timestamp):
            raise DeclarationError(
                "a timestamp cursor needs a key, because equal timestamps are told apart by it",
                where=where,
                fix='add key="…"',
            )
        if not told_apart and isinstance(self.cursor, TransactionId):
            raise DeclarationError(
                "a transaction-id cursor needs a key, because a row that changed is read again",
                where=where,
                fix='add key="…"',
            )
        if self.deletes and not isinstance(self.load, Merge):
            raise DeclarationError(
                "deletes=True marks deleted rows of a merged table; replace and overwrite drop them by themselves, "
                "append keeps all",
                where=where,
                fix="use load=Merge() or remove deletes=True",
            )
        self.tolerance.refuse_nonsense(where)
        if not 0 <= self.max_deleted <= 1:
            raise DeclarationError(
                f"max_deleted is a share between 0 and 1, not {self.max_deleted}",
                where=where,
                fix="write 0.1 for one row in ten, or 1 to let any number go",
            )
        if self.on_drift not in get_args(OnDrift):
            raise DeclarationError(
                f"on_drift is {self.on_drift!r}", where=where, fix=f"choose among {', '.join(get_args(OnDrift))}"
            )
        if self.on_drift == "quarantine" and isinstance(self.load, Append) and not self.keys:
            raise DeclarationError(
                "rows that waited in quarantine are read again once they fit, and an append without a key could not "
                "tell them from those that are in",
                where=where,
                fix='add key="…", or use on_drift="evolve" or "freeze"',
            )
        refuse_repeats([rule.name for rule in self.rules], "rule", where)
        refuse_repeats(list(self.keys), "key column", where)
        if not all([*self.keys, self.schema, *([] if self.cursor_column is None else [self.cursor_column])]):
            raise DeclarationError(
                "the schema or a column of the key or cursor has no name",
                where=where,
                fix="write the names as the source has them, or leave the argument out",
            )


@dataclass(frozen=True, slots=True)
class Database:
    """A database that we read.

        Database("shop", connection="shop", tables=[…])                  PostgreSQL
        Database("erp", connection="erp", engine="mysql", tables=[…])    MySQL or MariaDB; see docs/other-databases.md

    `connection` names it in the environment (MEDALLION_SOURCE_<CONNECTION>_URL) and among the blocks
    (source-<connection>). `schedule` is a cron line in UTC. `max_parallel` bounds the tables read at one time.
    """

    name: str
    connection: str
    tables: SequenceOf[Table]
    schedule: str | None = None
    max_parallel: int = 4
    description: str = ""
    engine: Engine = "postgresql"
    kind: str = field(default="database", init=False)

    @property
    def raw_schema(self) -> str:
        """Where its tables land: `raw_shop`."""
        return f"raw_{self.name}"

    def __post_init__(self) -> None:
        where = f"source {self.name}"
        require_plain(self.name, "source", where)
        require_plain(self.connection, "connection", where)
        if not self.tables:
            raise DeclarationError("no tables", where=where, fix="declare at least one Table")
        refuse_repeats([table.name for table in self.tables], "table", where)
        if self.engine not in get_args(Engine):
            raise DeclarationError(
                f"no engine {self.engine!r} is known",
                where=where,
                fix=f"choose among {', '.join(get_args(Engine))}; MariaDB is mysql",
            )
        if self.engine == "postgresql" and (named := [table.name for table in self.tables if table.as_text]):
            raise DeclarationError(
                f"as_text of {', '.join(named)} would do nothing: types of PostgreSQL arrive as they are",
                where=where,
                fix="remove as_text",
            )
        if self.engine != "postgresql" and (
            named := [table.name for table in self.tables if isinstance(table.cursor, TransactionId)]
        ):
            raise DeclarationError(
                f"a transaction-id cursor ({', '.join(named)}) is known to PostgreSQL only",
                where=where,
                fix="use Timestamp(…) or Sequence(…), or no cursor",
            )
        if self.engine != "postgresql" and (
            named := [table.name for table in self.tables if isinstance(table.load, Overwrite)]
        ):
            raise DeclarationError(
                f"partitions are overwritten from PostgreSQL only ({', '.join(named)} of {self.engine})",
                where=where,
                fix="use load=Merge() with a cursor, or load=Replace()",
            )
        object.__setattr__(self, "tables", tuple(self.tables))

    def table(self, name: str) -> Table:
        """The declared table of that name.

        Raises:
            DeclarationError: there is none; the message lists those there are.
        """
        for table in self.tables:
            if table.name == name:
                return table
        raise unknown_table(self.name, name, [table.name for table in self.tables])
