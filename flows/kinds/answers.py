"""What a kind of source is asked with, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from flows.declare.source import Loadable, Source
from flows.state.change_counts import Totals
from flows.values.connection import DatabaseConnection
from flows.values.plan import LoadPlan

S = TypeVar("S", bound=Source)
T = TypeVar("T", bound=Loadable)


@dataclass(frozen=True, slots=True)
class Planned:
    """A table's next load: the plan for people, and what the kind needs to carry it out."""

    plan: LoadPlan
    carry: Any = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Rows that a load would read (None: the source cannot tell without being read).

    `keys_differ`: raw and quarantine hold other keys than the source, so a load has deletes to mark, even without rows.
    `refusal`: why the load would be refused, if the counts of both ends already tell.
    """

    rows: int | None = None
    keys_differ: bool = False
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Ends(Generic[S, T]):
    """Both ends of one table: connection URLs, and what is declared. `address` is what `Kind.address` returned."""

    warehouse: DatabaseConnection
    address: Any
    source: S
    table: T

    @property
    def where(self) -> str:
        """`shop.baskets`, as errors name it."""
        return f"{self.source.name}.{self.table.name}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of raw. `data_type` is None where the source decides; `required` where null would be a fault."""

    name: str
    description: str
    data_type: str | None = None
    required: bool = True


@dataclass(frozen=True, slots=True)
class EventTime:
    """A column of raw with the times of events. `zone` is that of a column without time zone; `per_second`: it has
    numbers, so many per second since 1970."""

    column: str
    zone: str = "UTC"
    per_second: int = 0


@dataclass(frozen=True, slots=True)
class Words:
    """A table's line on the page of all tables, where it is not as for other kinds. None: as for others.

    `stored`: what the value of its stored cursor is, if it is none of the cursor's.
    """

    name: str | None = None
    key: str | None = None
    load: str | None = None
    cursor: str | None = None
    deletes: str | None = None
    stored: str | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """A table's first records, as the source sent them (JSON), and what kinds of values each field holds.

    `facts`: what was looked at, what is declared of it, and what the answer suggests.
    """

    records: Sequence[bytes]
    fields: Mapping[str, str]
    facts: Sequence[tuple[str, str, str]] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """A statement at a source that capture needs, and why. `who` has the right to run it; `error`: it was refused."""

    sql: str
    why: str
    who: str
    done: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class TablePosition:
    """A captured table: its position, the bytes of log behind it, and what its loads of changes brought in total.

    `position` is None before its first load, and while a snapshot is read.
    """

    table: str
    position: str | None = None
    behind: int | None = None
    counts: Totals = field(default_factory=Totals)


@dataclass(frozen=True, slots=True)
class CaptureStatus:
    """A source's slot and publication, and its tables. `lost`: why the slot has no log; `problem`: why nothing can be
    captured; sizes are in bytes."""

    source: str
    slot: str
    has_slot: bool
    lost: str | None
    is_read: bool
    publication: str | None
    retained: int
    limit: int
    kept_at_most: str
    problem: str | None
    tables: Sequence[TablePosition]

    @property
    def is_well(self) -> bool:
        """Whether the next load finds its changes."""
        return self.problem is None and self.has_slot and self.lost is None


@dataclass(frozen=True, slots=True)
class TriggeredTable:
    """A table with triggers: rows and bytes of its change table, and the age of the oldest row in seconds (None: there
    is none). `problem`: why its changes are not recorded."""

    table: str
    rows: int
    size: int
    oldest: float | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class TriggerStatus:
    """A source whose changes are captured by triggers. `limit`: bytes after which recording of a table stops."""

    source: str
    limit: int
    tables: Sequence[TriggeredTable]

    @property
    def is_well(self) -> bool:
        """Whether the next load finds its changes."""
        return all(table.problem is None for table in self.tables)


@dataclass(frozen=True, slots=True)
class CursorCandidate:
    """A column that a cursor might follow, by the source's catalogue. `counts`: numbers of a sequence, else times.

    `evidence` says why: `default now()`, `set by a trigger`. `indexed`: an index at the source begins with it.
    """

    column: str
    counts: bool
    evidence: str
    indexed: bool


@dataclass(frozen=True, slots=True)
class SourceScan:
    """How the source finds the rows of a load by the declared cursor, as its planner says. Nothing is executed.

    `reads_all`: by a scan of the table. `wanted`: rows that the load would read. `share`: of the cost of what a load
    asks the source for, that of finding these rows. `index`: SQL that makes an index for it, at the source.
    """

    column: str
    reads_all: bool
    wanted: int
    share: float
    index: str
    undo: str


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What the tuner asks a source about a table, from its catalogue and statistics.

    `free_connections`: how many more sessions the source accepts; None: unknown.
    """

    rows: int
    bytes: int
    candidates: Sequence[CursorCandidate] = ()
    scan: SourceScan | None = None
    free_connections: int | None = None
