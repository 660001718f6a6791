"""Both ends' keys compared at the end of a stretch: in a snapshot of the warehouse, while following goes on.

The source's keys are known from the log, and stored with each position. Raw's keys are counted, which reads its index
or all of it; so a table is compared at most so often that it takes a twentieth of the time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import asyncpg

from flows.kinds.changelog import net, position
from flows.kinds.changelog.follow.tables import Followed
from flows.publish.reconciliation import by_counts
from flows.state import ledger, stretches
from flows.state.stretches import Compared
from flows.values.plan import KeySet

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_log = logging.getLogger(__name__)
_SHARE = 0.05


class Comparer:
    """Compares one table at a time. `on_result` gets what did not match."""

    def __init__(self, warehouse: Connection[Record], on_result: Callable[[Followed, Compared], None]) -> None:
        self._warehouse, self._on_result = warehouse, on_result
        self._task: asyncio.Task[None] | None = None
        self._not_before: dict[str, float] = {}
        self._batch_id = 0

    @property
    def is_busy(self) -> bool:
        """Whether a comparison is under way."""
        return self._task is not None and not self._task.done()

    async def begin(self, followed: Followed, batch_id: int) -> bool:
        """Begin to compare the table as it is now, at the end of this batch; False if it is not its turn."""
        if self.is_busy or time.monotonic() < self._not_before.get(followed.table.name, 0.0):
            return False
        await self.end()
        await self._warehouse.execute("begin isolation level repeatable read read only")
        state = await ledger.read_cursor(self._warehouse, followed.target.source, followed.target.table)
        if position.of(state) != followed.stored:
            await self._warehouse.execute("rollback")
            return False
        self._batch_id = batch_id
        self._task = asyncio.create_task(self._compare(followed, batch_id, position.keys_of(state)))
        return True

    async def _compare(self, followed: Followed, batch_id: int, keys: KeySet | None) -> None:
        began, found = time.monotonic(), None
        try:
            raw, aside = await net.held_apart(
                self._warehouse, followed.target, followed.table.keys, followed.planned.shape
            )
            rows = None if keys is None else keys.rows
            found = Compared(by_counts(keys, raw.plus(aside)), rows, raw.rows, aside.rows)
        except asyncpg.PostgresError as problem:
            if self._warehouse.is_closed():
                raise
            _log.warning("%s was not compared (%s)", followed.target.where, problem.sqlstate)
        await self._warehouse.execute("rollback")
        await stretches.close(self._warehouse, batch_id, found)
        self._not_before[followed.table.name] = time.monotonic() + (time.monotonic() - began) / _SHARE
        if found is not None:
            self._on_result(followed, found)

    async def end(self, within: float | None = None) -> int | None:
        """Wait for the comparison that is under way; its batch if it did not end within so many seconds."""
        task, self._task = self._task, None
        if task is not None:
            try:
                await asyncio.wait_for(task, within)
            except TimeoutError:
                return self._batch_id
        return None
