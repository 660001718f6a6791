"""The protocol of a kind of source.

A kind is a folder in flows/kinds, and a function and a line in flows/kinds/registry.py. It fills in what it can do;
what it leaves out refuses with an error that names the fix. Nothing outside its folder asks what kind a source is.

    address → open → plan → waiting                      `medallion plan`: looks at both ends, touches neither
                          → follow                       loads without end, each commit like one of `load`
                          → load                         stages rows and calls `run.publish`, once or many times
                                 → acknowledge           only after the commit
    compare, repair                                      `medallion reconcile`
    refuse_backfill, count_partitions, backfill          `medallion backfill`
    missing_capture, set_up_capture, drop_capture        `medallion capture`
    preview, draft                                       `medallion preview`, `medallion add`
    row_checks, refuse_replay                            `medallion quarantine`
    source_facts                                         `medallion tune`
    order, columns, words, dataset                       what the flows, dbt, Soda, docs and lineage need to know
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from flows.access import addresses
from flows.declare.cursor import Epoch, Timestamp
from flows.declare.partition import Partition
from flows.declare.source import Loadable, Source
from flows.kinds.answers import (
    Column,
    Ends,
    EventTime,
    Planned,
    Preview,
    SourceFacts,
    Waiting,
    Words,
)
from flows.kinds.capturing import Capturing
from flows.observe.openlineage import Dataset
from flows.publish.replay import RowChecks
from flows.publish.run import Loaded, LoadRun
from flows.publish.session import LoadResult
from flows.state.reconciliations import Reconciliation
from flows.values.checksum import Key
from flows.values.errors import DeclarationError
from flows.values.plan import CursorState

if TYPE_CHECKING:
    from asyncpg import Connection, Record

S = TypeVar("S", bound=Source)
T = TypeVar("T", bound=Loadable)


class Kind(Capturing[S], Generic[S, T]):
    """What a kind of source can do. A kind without an ability keeps the method that refuses it."""

    #: Whether its address carries a key and a user beside the URL, as an API's does.
    has_key: bool = False
    #: Whether a load whose read was interrupted is taken up again under its old batch id.
    resumes: bool = False
    #: Whose fault an error in `plan` is, unless it says so itself: `source` or `warehouse`.
    plan_fails_at: str = "source"
    #: Whether large tables are read in chunks, which `LoadRun.run_chunk` may have staged elsewhere.
    reads_in_chunks: bool = False
    #: Whether the value in `ops.cursors` decides where a load begins, so that a person may move it.
    cursor_decides: bool = False
    #: Whether a load reads no more rows than the row limit for development allows.
    heeds_limit: bool = False
    #: What a load does about a budget's rows: `stops` at a commit, from which the next load goes on, `refuses` to begin
    #: if more are pending, or `checks` afterwards. A kind that stops may refuse some of its tables.
    at_budget: Literal["stops", "refuses", "checks"] = "checks"
    #: Whether `source_facts` says anything, so that the tuner asks the source.
    has_facts: bool = False
    #: What a comparison of both ends compares: `count`, or `content`.
    compares_by: str = "count"

    # -- where it is

    def address(self, source: S) -> Any:
        """Where the source is.

        Raises:
            ConfigurationError: its connection URL is not configured.
        """
        return addresses.look_up(source.name, source.connection or source.name)

    def open(
        self, source: S, address: Any, where: str, application: str = "medallion"
    ) -> AbstractAsyncContextManager[Any]:
        """The source, opened read-only; `application` names the session to a server that shows names.

        Raises:
            MedallionError: it cannot be opened, in words without secrets.
        """
        return nullcontext(address)

    # -- one load

    async def plan(self, warehouse: Connection[Record], origin: Any, source: S, table: T) -> Planned:
        """What a load of the table would do now. Reads both ends and touches neither."""
        raise NotImplementedError

    async def waiting(self, warehouse: Connection[Record], origin: Any, planned: Planned) -> Waiting:
        """What the planned load would find."""
        return Waiting()

    async def load(self, run: LoadRun[S, T], planned: Planned) -> Loaded:
        """Stage what is planned, and publish it by `run.publish`; returns what was carried out.

        Raises:
            MedallionError: see `flows.values.errors`; what was committed before stays, and nothing partial is left.
        """
        raise NotImplementedError

    async def stage_chunk(self, ends: Ends[S, T], job: Any) -> Any:
        """Carry out a job that the kind handed to `LoadRun.run_chunk`, on whichever machine this is."""
        raise NotImplementedError  # only kinds that read in chunks hand jobs out

    async def acknowledge(self, run: LoadRun[S, T], planned: Planned, loaded: Loaded) -> None:
        """Tell the source that the load is committed: a slot advances, offsets are committed, files are released."""

    # -- both ends compared

    async def compare(self, ends: Ends[S, T]) -> tuple[Reconciliation, Sequence[Key]]:
        """Both ends of a table that was loaded, and the keys that a repair would read again (none: it cannot)."""
        raise NotImplementedError

    def refuse_repair(self, table: T, result: Reconciliation) -> None:
        """Refuse a repair that would delete too much of raw.

        Raises:
            DataRefused: more rows are gone at the source than the declaration allows to delete at once.
        """

    async def repair(self, ends: Ends[S, T], keys: Sequence[Key], source_rows: int, run_id: int | None) -> None:
        """Read these keys again, and bring raw up to date with them."""
        raise NotImplementedError  # only called with keys that `compare` returned

    # -- rows of quarantine loaded again

    def row_checks(self, table: T) -> RowChecks:
        """What a load of the table checks of each row."""
        return RowChecks(table.rules)

    def refuse_replay(self, table: T, state: CursorState, raw: Collection[str], where: str) -> None:
        """Refuse to load quarantined rows into raw, by what is stored of its loads (`state`) and its columns.

        Raises:
            DeclarationError: the rows were stored under another declaration.
        """

    # -- a part of a table read again

    def refuse_backfill(self, source: S, table: T, column: str | None) -> str:
        """The column that divides the table into partitions.

        Raises:
            DeclarationError: the table cannot be read by partition.
        """
        where = f"{source.name}.{table.name}"
        raise DeclarationError(
            "partitions can be read again from PostgreSQL only",
            where=where,
            fix=f"for a full reload, `medallion reload {where}` and `medallion run {where}`",
        )

    async def count_partitions(
        self, ends: Ends[S, T], column: str, wanted: list[Partition]
    ) -> tuple[list[tuple[Partition, int, int]], bool]:
        """What a backfill would read: (partition, rows at the source, live rows in raw); and whether an index helps."""
        raise NotImplementedError  # refuse_backfill comes first

    async def backfill(
        self,
        ends: Ends[S, T],
        column: str,
        partition: Partition,
        backfill_id: int,
        run_id: int | None,
        on_progress: Any,
    ) -> LoadResult:
        """Make raw's rows of the partition what the source holds now."""
        raise NotImplementedError  # refuse_backfill comes first

    # -- a look before anything is declared or read

    async def preview(self, ends: Ends[S, T], count: int) -> Preview:
        """The first records, and what their fields hold. Writes nothing."""
        raise DeclarationError(
            "a preview shows what an API answers, and this source is none",
            where=ends.where,
            fix=f"`medallion plan {ends.where}` shows what a load would read; or name an endpoint of an API",
        )

    async def draft(
        self, name: str, url: str, auth: str, parameter: str | None, key: str | None, user: str | None
    ) -> str:
        """A declaration to start from, as Python, from what the address answers. `auth` says how the key is sent."""
        raise DeclarationError(
            "a declaration is drafted from what an API answers", where=name, fix="`medallion add api URL`"
        )

    async def holds(self, ends: Ends[S, T], column: str, value: str) -> bool:
        """Whether a row at the source has this value in the column.

        Raises:
            DeclarationError: the kind cannot ask the source for single rows.
        """
        raise DeclarationError(
            "the source cannot be asked for single rows",
            where=ends.where,
            fix="declare a table of a PostgreSQL database as the subject's home",
        )

    # -- what the tuner asks

    async def source_facts(self, origin: Any, table: T, reached: str | None) -> SourceFacts | None:
        """What the source's catalogue and planner say about the table; None: the kind does not know.

        `reached` is the stored cursor. Reads no rows, and writes nothing.
        """
        return None

    # -- what others need to know

    def order(self, tables: Iterable[T]) -> Mapping[str, str]:
        """Which table waits for which other to end, by name."""
        return {}

    def columns(self, table: T) -> Sequence[Column]:
        """The columns of raw that follow from the declaration; the source may bring more."""
        return [Column(name, "Key of the row at the source.") for name in table.keys]

    def event_time(self, table: T) -> EventTime | None:
        """The column of raw that holds the cursor's times; None if the cursor is no time."""
        match table.cursor:
            case Timestamp() as cursor:
                return EventTime(cursor.column, cursor.zone_name)
            case Epoch() as cursor:
                return EventTime(cursor.column, per_second=cursor.per_second)
            case _:
                return None

    def describe(self, source: S) -> str:
        """What the source is, for the page of all tables: `PostgreSQL database`."""
        return source.kind

    def words(self, table: T) -> Words:
        """What the page of all tables says otherwise than for other kinds."""
        return Words()

    def dataset(self, source: S, table: T) -> Dataset:
        """The table's name in OpenLineage."""
        return Dataset(f"{source.kind}://{source.name}", table.name)

    def reads(self, source: S, table: T) -> Sequence[Dataset]:
        """What a load of the table reads, by its name in OpenLineage: one dataset, unless the table is a query."""
        return [self.dataset(source, table)]

    def made_of(self, table: T, column: str) -> str | None:
        """The source's column that a column of raw is a copy of, for column lineage."""
        return None
