"""One load as its kind of source sees it: what it reads from, where it stages, and how it publishes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from flows.declare.source import Loadable, Source
from flows.landing.table import Target
from flows.observe.tracing import span
from flows.publish.budget import Spending
from flows.publish.publish import check_and_publish
from flows.publish.session import LoadSession, Progress
from flows.publish.staged import Staged
from flows.state import ledger
from flows.values.connection import DatabaseConnection
from flows.values.plan import LoadCounts, LoadPlan

if TYPE_CHECKING:
    from asyncpg import Connection, Record

S = TypeVar("S", bound=Source)
T = TypeVar("T", bound=Loadable)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load carried out: the plan as it ended, counts, changes of columns in words, and how many commits."""

    plan: LoadPlan
    counts: LoadCounts
    changes: tuple[str, ...] = ()
    chunks: int = 1


@dataclass(slots=True)
class LoadRun(Generic[S, T]):
    """A load under way, for the kind of source that carries it out.

    `run_chunk` has a chunk of a large table staged elsewhere (None: the kind reads in this process).
    """

    address: DatabaseConnection
    session: LoadSession
    origin: Any
    source_address: Any
    source: S
    table: T
    on_progress: Progress | None = None
    run_chunk: Callable[[Any], Awaitable[Any]] | None = None
    spending: Spending = field(default_factory=lambda: Spending(""))
    published: LoadCounts = field(default_factory=LoadCounts)
    _meters_itself: bool = False

    @property
    def warehouse(self) -> Connection[Record]:
        """The load's own connection, which holds the table's lock."""
        return self.session.warehouse

    @property
    def target(self) -> Target:
        """The raw table, and the landing table before it."""
        return self.session.target

    async def publish(
        self, part: Staged, note: Callable[[Connection[Record], int], Awaitable[None]] | None = None
    ) -> LoadCounts:
        """Check the staged rows and publish them in one transaction, with `note` as part of it.

        Raises:
            DataRefused: too many rows break a rule, or too many are gone at the source. Nothing was published.
            WarehouseError: the commit failed, and the ledger says so.
        """
        self.session.pass_failpoint("after_copy")
        if not self._meters_itself:
            self.spending.settle(0 if part.equals_raw else part.rows_read, part.received_bytes)
        with span("publish", batch=self.session.batch_id) as publishing:
            counts = await check_and_publish(self.address, self.session, part, note)
            publishing.set(rows_read=counts.rows_read, rows_quarantined=counts.rows_quarantined)
        self.published = counts.after(self.published)
        return counts

    def spend(self, rows: int = 0, size: int = 0, requests: int = 0) -> None:
        """Count what was read against the budgets, for a kind that keeps rows before it publishes them. Of the others
        the published rows are counted."""
        self._meters_itself = True
        self.spending.spend(rows, size, requests)

    async def next_batch(self, plan: LoadPlan) -> None:
        """Open the batch of the next part of the same read."""
        self.session.batch_id = await ledger.open_load(
            self.warehouse, self.session.run_id, plan.source, plan.table, plan.strategy
        )
