"""Tables that do not follow now: with an ordinary load under way, or waiting until they are tried again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from flows.declare.database import Database
from flows.declare.table import Table
from flows.failures.diagnose import explain
from flows.kinds.changelog import position
from flows.publish.following import Following
from flows.state import table_locks
from flows.values.errors import MedallionError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# A load that fails again and again is repeated after so long, twice as long each time: the first and the longest wait
# for failures that pass, and for those that wait for a person.
_RETRYABLE_SECONDS = (2.0, 60.0)
_OTHER_SECONDS = (60.0, 600.0)


class Loads:
    """The ordinary loads of one run. `failing`: the error of each table whose last load failed."""

    def __init__(self, following: Following[Database], tables: list[Table]) -> None:
        self._following, self._tables = following, tables
        self._turns = asyncio.Semaphore(following.source.max_parallel)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._not_before: dict[str, float] = {}
        self._attempts: dict[str, int] = {}
        self._must_load: set[str] = set()
        self.failing: dict[str, MedallionError] = {}

    @property
    def under_way(self) -> Collection[str]:
        """Tables with a load under way."""
        return self._tasks

    def waiting(self, followed: Collection[str]) -> list[Table]:
        """Tables that can be planned now."""
        now = time.monotonic()
        return [
            table
            for table in self._tables
            if table.name not in followed
            and table.name not in self._tasks
            and self._not_before.get(table.name, 0.0) <= now
        ]

    def must_load(self, table: str) -> bool:
        """Whether the table has to be loaded, whatever its plan is."""
        return table in self._must_load

    def begin(self, table: str) -> None:
        """Begin an ordinary load."""
        self._must_load.discard(table)
        task = self._tasks[table] = asyncio.create_task(self._load(table))
        task.add_done_callback(lambda _: self._tasks.pop(table, None))

    async def _load(self, table: str) -> None:
        attempts = self._attempts[table] = self._attempts.get(table, 0) + 1
        try:
            async with self._turns:
                await self._following.load(table)
        except Exception as problem:
            error = explain(problem, f"{self._following.source.name}.{table}")
            if table not in self.failing:
                self._following.tell(f"{error.where}: does not follow: {error.what}")
            self.failing[table] = error
            first, longest = _RETRYABLE_SECONDS if error.retryable else _OTHER_SECONDS
            self._not_before[table] = time.monotonic() + min(longest, first * 2.0 ** (attempts - 1))
        else:
            self.failing.pop(table, None)
            # It follows now; if its plan says otherwise again and again, something is wrong that waiting may clear.
            self._not_before[table] = 0.0 if attempts == 1 else time.monotonic() + min(60.0, 2.0**attempts)

    def follows(self, table: str) -> None:
        """The table has been planned, and follows."""
        self.failing.pop(table, None)
        self._not_before.pop(table, None)

    def committed(self, table: str) -> None:
        """The table has committed changes."""
        self._attempts.pop(table, None)

    def leaves(self, table: str, *, must_load: bool, after: float = 0.0) -> None:
        """The table does not follow any more, and is planned again after so many seconds, or loaded at once."""
        if must_load:
            self._must_load.add(table)
        self._not_before[table] = time.monotonic() + after

    def refuse_if_none_can(self, followed: Collection[str]) -> None:
        """Raises:
        MedallionError: the error of a table, if no table follows, and none will until a person has acted.
        """
        if followed or self._tasks or len(self.failing) < len(self._tables):
            return
        if not any(error.retryable for error in self.failing.values()):
            raise next(iter(self.failing.values()))

    def all_known(self, followed: Collection[str]) -> bool:
        """Whether each table follows, or has failed."""
        return all(table.name in followed or table.name in self.failing for table in self._tables)

    async def let_go(self, warehouse: Connection[Record], followed: Collection[str]) -> None:
        """Give up the positions of tables that do not follow and have no load under way: their next load compares."""
        source = self._following.source.name
        for name in [table.name for table in self._tables]:
            if name in followed or name in self._tasks or not await table_locks.lock_table(warehouse, source, name):
                continue
            try:
                if (await position.positions(warehouse, source, [name])).keys():
                    await position.forget(warehouse, source, name)
                    self._following.tell(f"{source}.{name}: no longer keeps the log; its next load compares it")
            finally:
                await table_locks.unlock_table(warehouse, source, name)

    async def cancel(self) -> None:
        """End the loads that are under way; each leaves what it has committed."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
