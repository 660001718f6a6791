"""A folder of Debezium's change events, and the tables that are made of them. Literals only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from flows.declare.ask import Ask, refuse_ask
from flows.declare.budget import Budget, refuse_budget
from flows.declare.freshness import Freshness, refuse_freshness
from flows.declare.load import Merge
from flows.declare.refusals import refuse_repeats, unknown_table
from flows.declare.rule import OnDuplicate, Rule, Tolerance
from flows.kinds.debezium.types import raw_type
from flows.kinds.files.pattern import Pattern
from flows.kinds.files.ready import Ready, Settled, refuse_ready
from flows.values.errors import DeclarationError
from flows.values.identifiers import require_plain
from flows.values.shape import METADATA_NAMES

#: On every row: where its last change is in the topic.
PARTITION, OFFSET = "_partition", "_offset"
PLACEHOLDER = "__debezium_unavailable_value"
_LONGEST_NAME = 63

Decimals = Literal["precise", "string", "double"]
Times = Literal["adaptive", "adaptive_time_microseconds", "connect", "isostring", "microseconds", "nanoseconds"]
Binaries = Literal["bytes", "base64", "base64-url-safe", "hex"]
Intervals = Literal["numeric", "string"]


@dataclass(frozen=True, slots=True)
class Encodings:
    """How the connector writes values, as in its configuration. Only used for events without schemas.

        Encodings(decimal="string", time="isostring")

    `decimal` is `decimal.handling.mode`, `time` is `time.precision.mode`, `binary` is `binary.handling.mode`,
    `interval` is `interval.handling.mode`. The defaults are those of Debezium. An event with a schema says itself how
    its values are written.
    """

    decimal: Decimals = "precise"
    time: Times = "adaptive"
    binary: Binaries = "bytes"
    interval: Intervals = "numeric"

    def __post_init__(self) -> None:
        for name, known in (("decimal", Decimals), ("time", Times), ("binary", Binaries), ("interval", Intervals)):
            if getattr(self, name) not in get_args(known):
                raise DeclarationError(
                    f"{name}={getattr(self, name)!r} is no way in which Debezium writes values",
                    where="Encodings",
                    fix=f"use {', '.join(get_args(known))}",
                )


@dataclass(frozen=True, slots=True)
class EventTable:
    """One table, made of the events of one topic.

        EventTable("orders", topic="shop.public.orders", key="order_id", match="orders-*.jsonl.gz")
        EventTable("prices", topic="shop.public.prices", key="sku", columns={"sku": "text", "price": "numeric(10,2)"})

    `match` is a pattern of the paths of files under the connection URL; events of other topics in them are skipped.
    `columns` are types by name. A column that is not named there has the type that the event's schema says; if events
    have no schema, it is jsonb and holds the value as it is in the event, undecoded. The key needs a type by either.
    The other options are as for tables of a Database.
    """

    name: str
    topic: str
    key: str | tuple[str, ...]
    match: str = "*.jsonl"
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)
    rules: tuple[Rule, ...] = ()
    max_quarantined: float = 0.0
    quarantine_floor: int = 5
    max_deleted: float = 0.5
    may_be_empty: bool = True
    description: str = ""
    freshness: Freshness | None = None
    budget: Budget | None = None
    on_refusal: Ask | None = None
    load: Merge = field(default_factory=Merge)
    on_duplicate: OnDuplicate = "quarantine"
    cursor: None = None
    deletes: bool = True

    @property
    def keys(self) -> tuple[str, ...]:
        """The key's columns, in order."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    @property
    def pattern(self) -> Pattern:
        """The pattern of its paths."""
        return Pattern(self.match)

    @property
    def tolerance(self) -> Tolerance:
        """How many rows of a read may break row checks."""
        return Tolerance(self.max_quarantined, self.quarantine_floor)

    @property
    def types(self) -> dict[str, str]:
        """The declared columns by their types in raw, in order."""
        return {name: raw_type(declared) or declared for name, declared in self.columns.items()}

    def __post_init__(self) -> None:
        where = f"table {self.name}"
        require_plain(self.name, "table", where)
        object.__setattr__(self, "columns", dict(self.columns))
        if not self.keys or not all(self.keys):
            raise DeclarationError(
                "events need a key, because changes are matched on it", where=where, fix='add key="…"'
            )
        if not self.topic:
            raise DeclarationError(
                "no topic", where=where, fix='add topic="<prefix>.<schema>.<table>", as the connector names it'
            )
        for name, declared in self.columns.items():
            if raw_type(declared) is None:
                raise DeclarationError(
                    f"the type {declared!r} of column {name} is unknown",
                    where=where,
                    fix="use text, bigint, integer, smallint, numeric(14,2), real, double precision, boolean, date, "
                    "time, timetz, timestamp, timestamp(3), timestamptz, interval, uuid, jsonb, bytea, bit(8), or one "
                    "of them as an array: text[]",
                )
        for name in (*self.columns, *self.keys):
            if reserved(name):
                raise DeclarationError(
                    f"raw cannot have a column {name!r}: the name is reserved, empty or longer than 63 bytes",
                    where=where,
                    fix="rename it in the connector with a transform",
                )
        if self.pattern.columns:
            raise DeclarationError(
                "parts of the path cannot be columns", where=where, fix="write * instead of the braces in match"
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
        refuse_repeats([rule.name for rule in self.rules], "rule", where)
        refuse_repeats(list(self.keys), "key column", where)


def reserved(name: str) -> bool:
    """Whether raw cannot have a column of that name."""
    taken = name in METADATA_NAMES or name in (PARTITION, OFFSET)
    return taken or not name or "\0" in name or len(name.encode()) > _LONGEST_NAME


@dataclass(frozen=True, slots=True)
class Debezium:
    """Change events of Debezium, which something writes into files.

        Debezium("shop_events", connection="events", tables=[EventTable(…)])

    `connection` names the place in the environment (MEDALLION_SOURCE_<CONNECTION>_URL: the path of a folder,
    `s3://bucket/prefix`, or another address that fsspec reads) and among the blocks (source-<connection>). `ready` says
    when a file is complete. `encodings` says how values are written if events have no schemas. `placeholder` is the
    connector's `unavailable.value.placeholder`. `max_expansion` is how many times larger than its packed bytes a file
    may become. The other options are as for a Database.
    """

    name: str
    connection: str
    tables: Sequence[EventTable]
    ready: Ready = field(default_factory=Settled)
    encodings: Encodings = field(default_factory=Encodings)
    placeholder: str = PLACEHOLDER
    max_expansion: int = 200
    schedule: str | None = None
    max_parallel: int = 4
    description: str = ""
    freshness: Freshness | None = None
    budget: Budget | None = None
    on_refusal: Ask | None = None

    @property
    def kind(self) -> str:
        """The folder in flows/kinds that knows how to read it."""
        return "debezium"

    @property
    def raw_schema(self) -> str:
        """The schema of its raw tables: `raw_shop_events`."""
        return f"raw_{self.name}"

    def __post_init__(self) -> None:
        where = f"source {self.name}"
        require_plain(self.name, "source", where)
        require_plain(self.connection, "connection", where)
        refuse_freshness(self.freshness, where)
        refuse_budget(self.budget, where)
        refuse_ask(self.on_refusal, where)
        if not self.tables:
            raise DeclarationError("no tables", where=where, fix="declare at least one EventTable")
        refuse_repeats([table.name for table in self.tables], "table", where)
        refuse_ready(self.ready, where)
        if self.max_expansion < 1:
            raise DeclarationError("max_expansion is below 1", where=where, fix="write 200, or more")
        if not self.placeholder:
            raise DeclarationError("placeholder is empty", where=where, fix="leave it out, or write the connector's")
        object.__setattr__(self, "tables", tuple(self.tables))

    def table(self, name: str) -> EventTable:
        """The declared table of that name.

        Raises:
            DeclarationError: there is none.
        """
        for table in self.tables:
            if table.name == name:
                return table
        raise unknown_table(self.name, name, [table.name for table in self.tables])
