"""A table of a source database: what is read of it, and how it is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from flows.declare.budget import Budget, refuse_budget
from flows.declare.cursor import ByClock, Epoch, Sequence, Timestamp, TransactionId
from flows.declare.freshness import Freshness, refuse_freshness
from flows.declare.load import Append, Merge, Overwrite, Replace
from flows.declare.mask import Hashed, Mask, refuse_masks
from flows.declare.query import body
from flows.declare.refusals import refuse_repeats
from flows.declare.rule import OnDuplicate, Rule, Tolerance, refuse_unknown_reaction
from flows.values.errors import DeclarationError
from flows.values.identifiers import qualified, quote_identifier, require_plain

OnDrift = Literal["evolve", "freeze", "quarantine"]
"""What happens when a table's columns change at the source."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a database.

        Table("products", key="product_id", load=Replace())
        Table("baskets", key="basket_id", cursor=Timestamp("updated_at", lag="10 min"), load=Merge(), deletes=True)
        Table("household_events", key="event_id", cursor=Sequence("event_id"), load=Append())
        Table("sales", load=Overwrite(by="sold_at", every="month", last=3))
        Table("customer_totals", key="customer_id", load=Replace(), query="select customer_id, sum(total) as total …")

    `key` is one column or several. `deletes` compares key sets after each read and marks rows deleted at the source.
    `rules` are row checks on load; if more than `max_quarantined` (a share, 0 to 1) of a read's rows break one, the
    load stops and nothing is published; a small read may quarantine `quarantine_floor` rows whatever its share, up to
    a quarter of it. `schema` is the table's schema at the source.
    `max_deleted` (a share, 0 to 1) stops a load with `deletes` that would mark more of raw's rows as deleted at once;
    tables with fewer than 100 rows in raw are exempt.
    `on_drift` is the reaction to changed columns of the source: "evolve" accepts new columns and wider types, and
    refuses changes that could alter values; "freeze" refuses every change; "quarantine" keeps raw's columns, loads the
    rows that fit them and quarantines the others, up to `max_quarantined`.
    `on_duplicate` is the reaction to a key that several rows of the source have: "quarantine" sets all of them aside as
    `key_not_unique`, "newest" all but the one with the highest cursor; both up to `max_quarantined`.
    `columns` are the only ones that are read; `exclude` names those that are not, so that personal data need not leave
    the source. Without either, all are read, those that the source adds as well.
    `query` is one statement in the source's SQL whose rows are the table's; `name` is then raw's alone.
    `where` is a condition in the source's SQL: other rows are not read, and count as rows that do not exist.
    `as_text` names columns that are loaded as text: in databases other than PostgreSQL for values that their type in
    raw cannot represent (zero dates, words in a numeric column).
    `masked` names columns of which a hash or a mask is loaded, so that their values do not reach the warehouse:
    `masked={"email": Hashed(), "phone": Masked(keep=2)}`.
    `source_name` is the table's name at the source, if it is not `name`: `Table("orders", source_name="Orders", …)`.
    `may_be_empty` lets gate raw pass, with a warning, if raw has no row of the table.
    `sees_a_part` accepts that the source hides rows from our role, by row-level security or by a view that filters by
    the current user: hidden rows then count as rows that do not exist, also for `deletes`. Without it, such a table
    fails, because hidden rows would look deleted. PostgreSQL only.
    `freshness` is how fresh the table must be, in place of what the source declares. `budget` is what a load may read
    before it stops.
    """

    name: str
    load: Replace | Append | Merge | Overwrite
    key: str | tuple[str, ...] = ()
    cursor: Timestamp | Epoch | Sequence | TransactionId | None = None
    deletes: bool = False
    rules: tuple[Rule, ...] = ()
    max_quarantined: float = 0.0
    quarantine_floor: int = 5
    max_deleted: float = 0.5
    schema: str = "public"
    description: str = ""
    columns: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    query: str = ""
    where: str = ""
    as_text: tuple[str, ...] = ()
    masked: Mapping[str, Mask] = field(default_factory=dict, hash=False)
    on_drift: OnDrift = "evolve"
    sees_a_part: bool = False
    source_name: str | None = None
    on_duplicate: OnDuplicate = "quarantine"
    may_be_empty: bool = False
    freshness: Freshness | None = None
    budget: Budget | None = None

    @property
    def at_source(self) -> str:
        """The table's name at the source."""
        return self.name if self.source_name is None else self.source_name

    @property
    def relation(self) -> str:
        """`"public"."baskets"`, or a query in brackets with an alias, for PostgreSQL."""
        if self.query:
            return f"(\n{body(self.query, f'table {self.name}')}\n) as {quote_identifier(self.name)}"
        return qualified(self.schema, self.at_source)

    @property
    def catalogued(self) -> str | None:
        """Its name in PostgreSQL's catalogue, which knows nothing of a query."""
        return None if self.query else qualified(self.schema, self.at_source)

    def within(self, condition: str) -> str:
        """The condition for declared rows only."""
        return f"({self.where}\n) and ({condition})" if self.where else condition

    @property
    def tolerance(self) -> Tolerance:
        """How many rows of a read may break row checks."""
        return Tolerance(self.max_quarantined, self.quarantine_floor)

    @property
    def deleted_at_once(self) -> float:
        """The share of raw's rows that may be deleted at once, also by a repair or a backfill."""
        return 1 - self.load.min_share if isinstance(self.load, Replace | Overwrite) else self.max_deleted

    @property
    def keys(self) -> tuple[str, ...]:
        """The key's columns, in order."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    @property
    def compared_by(self) -> tuple[str, ...]:
        """The columns by which both ends are compared after a load: the key, or else the sequence of an append."""
        if not self.keys and isinstance(self.load, Append) and isinstance(self.cursor, Sequence):
            return (self.cursor.column,)
        return self.keys

    @property
    def cursor_column(self) -> str | None:
        """The source's column that the cursor follows; None without a cursor, or for one that needs no column."""
        return None if self.cursor is None or isinstance(self.cursor, TransactionId) else self.cursor.column

    @property
    def named_columns(self) -> tuple[str, ...]:
        """The source's columns that a load needs: key, cursor, and the partition column of an overwrite."""
        named = [*self.keys, *([] if self.cursor_column is None else [self.cursor_column])]
        return tuple(dict.fromkeys([*named, *([self.load.by] if isinstance(self.load, Overwrite) else [])]))

    @property
    def has_masked_key(self) -> bool:
        """Whether the key has other values in raw than at the source."""
        return any(key in self.masked for key in self.keys)

    @property
    def hashes(self) -> bool:
        """Whether a column is hashed, for which a key is needed."""
        return any(isinstance(mask, Hashed) for mask in self.masked.values())

    def reads(self, column: str) -> bool:
        """Whether the source's column is read."""
        return column not in self.exclude and (not self.columns or column in self.columns)

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
                    "an append needs a cursor, because without one every run would append all rows again",
                    where=where,
                    fix="add cursor=Sequence(…) or cursor=Timestamp(…), or use load=Replace()",
                )
            case Append() if isinstance(self.cursor, ByClock) and self.cursor.overlap and not self.keys:
                raise DeclarationError(
                    "an append with a lag reads rows twice, and without a key it cannot deduplicate them",
                    where=where,
                    fix='add key="…" or use load=Merge()',
                )
            case Append() if isinstance(self.cursor, Sequence) and self.cursor.lag and not self.keys:
                raise DeclarationError(
                    "an append with a lag reads rows twice, and without a key it cannot deduplicate them",
                    where=where,
                    fix='add key="…" or use load=Merge()',
                )
            case Replace() if self.cursor is not None:
                raise DeclarationError(
                    "a replace reads the full table, so a cursor would never be used",
                    where=where,
                    fix="remove the cursor, or use load=Merge()",
                )
            case _:
                pass
        # An overwrite writes full partitions, so it does not need a key.
        told_apart = bool(self.keys) or isinstance(self.load, Overwrite)
        if not told_apart and isinstance(self.cursor, ByClock):
            raise DeclarationError(
                "a timestamp cursor needs a key, which distinguishes rows with equal timestamps",
                where=where,
                fix='add key="…"',
            )
        if not told_apart and isinstance(self.cursor, TransactionId):
            raise DeclarationError(
                "a transaction-id cursor needs a key, because changed rows are read again",
                where=where,
                fix='add key="…"',
            )
        if self.deletes and not isinstance(self.load, Merge):
            raise DeclarationError(
                "deletes=True marks deleted rows of a merged table; replace and overwrite remove them anyway, "
                "append keeps all rows",
                where=where,
                fix="use load=Merge() or remove deletes=True",
            )
        self.tolerance.refuse_nonsense(where)
        refuse_freshness(self.freshness, where, has_time=isinstance(self.cursor, ByClock))
        refuse_budget(self.budget, where)
        refuse_unknown_reaction(self.on_duplicate, where)
        if not 0 <= self.max_deleted <= 1:
            raise DeclarationError(
                f"max_deleted must be between 0 and 1, not {self.max_deleted}",
                where=where,
                fix="write 0.1 for one row in ten, or 1 to allow any number of deletes",
            )
        if self.on_drift not in get_args(OnDrift):
            raise DeclarationError(
                f"on_drift {self.on_drift!r} is unknown", where=where, fix=f"use one of {', '.join(get_args(OnDrift))}"
            )
        if self.on_drift == "quarantine" and isinstance(self.load, Append) and not self.keys:
            raise DeclarationError(
                "quarantined rows are read again once they fit, and an append without a key cannot distinguish them "
                "from rows that are loaded",
                where=where,
                fix='add key="…", or use on_drift="evolve" or "freeze"',
            )
        refuse_repeats([rule.name for rule in self.rules], "rule", where)
        refuse_repeats(list(self.keys), "key column", where)
        object.__setattr__(self, "masked", dict(self.masked))
        self._refuse_columns(where)
        self._refuse_query(where)
        ordered = {self.cursor_column, self.load.by if isinstance(self.load, Overwrite) else None}
        refuse_masks(self.masked, self.keys, ordered, self.as_text, where)
        if not all(
            [*self.keys, self.schema, self.at_source, *([] if self.cursor_column is None else [self.cursor_column])]
        ):
            raise DeclarationError(
                "the name of the table, its schema, or of a column of the key or cursor, is empty",
                where=where,
                fix="write the names as the source has them, or leave the argument out",
            )

    def _refuse_query(self, where: str) -> None:
        if self.query:
            body(self.query, where)
        if self.query and (self.source_name is not None or self.schema != "public"):
            raise DeclarationError(
                "query is declared beside schema or source_name, which name a table",
                where=where,
                fix="keep one: the query names its tables itself",
            )
        if self.query and isinstance(self.cursor, TransactionId):
            raise DeclarationError(
                "rows of a query have no id of the transaction that wrote them",
                where=where,
                fix="use Timestamp(…) or Sequence(…) over a column of the query, or no cursor",
            )

    def _refuse_columns(self, where: str) -> None:
        for argument in ("columns", "exclude", "as_text"):
            named = getattr(self, argument)
            if isinstance(named, str):
                raise DeclarationError(
                    f"{argument} is one text, not a tuple of names", where=where, fix=f'write {argument}=("{named}",)'
                )
            refuse_repeats(list(named), f"column of {argument}", where)
        if self.columns and self.exclude:
            raise DeclarationError(
                "both columns and exclude are declared",
                where=where,
                fix="keep one: the columns to take, or to leave out",
            )
        if needed := [name for name in (*self.named_columns, *self.as_text, *self.masked) if not self.reads(name)]:
            raise DeclarationError(
                f"column {', '.join(needed)} is not read, but the key, the cursor, the partition, as_text or masked "
                "needs it",
                where=where,
                fix="add it to columns, or remove it from exclude",
            )
