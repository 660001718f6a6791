"""A read from the cursor on, divided into windows that are published one after another, each with its own cursor.

An edge is a pair of cursor value and key: the key separates rows with equal values at an edge, so none is lost or read
twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flows.declare.cursor import ByClock
from flows.declare.table import Table
from flows.kinds.postgres.large.chunk_size import ChunkSize
from flows.kinds.postgres.large.slices import MOST_EDGES, Grid, edge_grid
from flows.kinds.postgres.large.within_budget import Steps, rows_apart
from flows.kinds.postgres.table import count
from flows.publish.budget import Spending
from flows.state import reads
from flows.state.reads import Chunk
from flows.values.identifiers import quote_identifier, quote_literal
from flows.values.plan import CursorState, LoadPlan, Window
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class Part:
    """Steps `lower` (inclusive) to `upper` (exclusive) of the read, as a window; `size` and `reason` are its choice."""

    window: Window
    lower: int
    upper: int
    is_last: bool
    size: int
    reason: str

    def recorded(self, rows: int, received: int, began: float) -> Callable[[Connection[Record], int], Awaitable[None]]:
        """Records the part as a chunk of its batch."""

        async def note(warehouse: Connection[Record], batch_id: int) -> None:
            chunk = Chunk(self.lower, self.upper, rows, received, time.monotonic() - began, 0, self.size, self.reason)
            await reads.record_chunk(warehouse, batch_id, 1, chunk)

        return note


class Windows:
    """The parts of a read; the next one is sized by the measured ones."""

    def __init__(self, table: Table, plan: LoadPlan, window: Window, spending: Spending) -> None:
        self._table, self._plan, self._window, self._spending = table, plan, window, spending
        self._steps = Steps(spending, 0, 0)
        self._settled: str | None = None
        self._reached = 0
        self._grid = Grid("cursor", 1)
        self._size: ChunkSize | None = None
        self.count = 0

    async def cut(self, origin: Connection[Record]) -> None:
        """Choose the edges: between the stored cursor and the horizon, below which no new rows can appear."""
        reading, limits = self._plan.reading, settings()
        assert self._window.lower is not None  # otherwise the read would be gathered
        assert self._window.upper is not None
        name = quote_identifier(reading.columns[0])
        ends = "<" if isinstance(self._table.cursor, ByClock) else "<="
        settled = (
            f"{self._window.condition} and {name} >= {quote_literal(self._window.lower)} "
            f"and {name} {ends} {quote_literal(self._window.upper)}"
        )
        width = max(1.0, reading.bytes / max(1, reading.rows))
        apart = rows_apart(int(limits.chunk_min_mb * 1e6 / width), self._spending, width)
        apart = max(apart, reading.rows // MOST_EDGES)
        self._grid = await edge_grid(origin, self._table, "cursor", reading.columns, settled, apart)
        self._size = ChunkSize.within(limits, reading.bytes, self._grid.steps)
        self._steps = Steps(self._spending, apart, apart * width)
        if self._steps.fits_at_most() is not None:
            await self._keep_back(origin, settled)

    async def _keep_back(self, origin: Connection[Record], settled: str) -> None:
        """Rows that came just now, or since a transaction that is still open began, belong to the last part, whatever
        their number. If they do not fit the budget they are left to the next load, which can divide them."""
        most = self._steps.fits_at_most() or 0
        unsettled = f"({self._window.condition}) and ({settled}) is not true"
        self._steps.kept_back = await count(origin, self._table, unsettled, most + 1)
        if self._steps.kept_back > most - self._steps.rows:
            self._steps.kept_back, self._settled = 0, settled

    def __iter__(self) -> Iterator[Part]:
        assert self._size is not None  # cut() runs first
        lower = 0
        while lower < self._grid.steps:
            upper = min(self._grid.steps, lower + self._steps.within(self._size.steps, first=True))
            self._steps.reserve(upper - lower)
            is_last = upper == self._grid.steps and self._settled is None
            condition = f"({self._window.condition}) and {self._grid.condition(lower, upper)}"
            if self._settled is not None and upper == self._grid.steps:
                condition = f"{condition} and {self._settled}"
            after = self._window.next if upper == self._grid.steps else self._cursor_at(upper)
            self.count += 1
            begin = self._grid.edges[lower - 1][0] if lower else self._window.lower
            window = replace(self._window, condition=condition, lower=begin, upper=after.value, next=after)
            self._reached = upper
            yield Part(window, lower, upper, is_last, self._size.aim, self._size.reason)
            lower = upper

    def _cursor_at(self, step: int) -> CursorState:
        value, *key = self._grid.edges[step - 1]
        return replace(self._window.next, value=value, key=json.dumps(key) if key else None)

    def stop_if_exhausted(self, reached: str | None) -> None:
        """Raises: BudgetReached: the next part would exceed a budget. The last one was published up to `reached`."""
        left_out = self._settled is not None
        if self._reached == self._grid.steps or self._steps.within(1, first=False) == 0:
            rows = (self._steps.fits_at_most() or 0) + 1 if left_out else int(self._steps.rows) + self._steps.kept_back
            raise self._spending.reached(f"from {reached}", rows, int(self._steps.size))

    def learn(self, part: Part, received: int, seconds: float, memory: int) -> None:
        """Adapt the size of the next part to the finished one."""
        assert self._size is not None  # cut() comes first
        self._size.learn(part.upper - part.lower, received, seconds, memory)
