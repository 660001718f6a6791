"""Rounds: the log is read, and each table's changes are committed, every half second or 50,000 changes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg

from flows.declare.database import Database
from flows.declare.table import Table
from flows.failures.sides import Sides
from flows.kinds.changelog import position
from flows.kinds.changelog.capture import Capture, names_of
from flows.kinds.changelog.changes import Changes
from flows.kinds.changelog.follow import commits
from flows.kinds.changelog.follow.comparing import Comparer
from flows.kinds.changelog.follow.connections import Connections
from flows.kinds.changelog.follow.loads import Loads
from flows.kinds.changelog.follow.tables import Followed, enter, read_facts
from flows.kinds.changelog.inbox import log_locked
from flows.kinds.changelog.reading import Cut, end_of_log, read_log
from flows.kinds.changelog.slot import advance_locked
from flows.publish.following import Following
from flows.state import reloads, stretches
from flows.values.errors import BudgetReached, LoadLocked, MedallionError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Changes that are committed at once, at the latest.
ROWS = 50_000
_ROUND_SECONDS = 0.5
_SHORTEST_PAUSE_SECONDS = 0.02
#: How often positions of tables without changes are stored, and how far following has come.
_SHOW_SECONDS = 5.0
#: The same with many tables: each takes some 5 ms, so a tenth of the time.
_SHOW_SHARE = 0.05
#: Commits of this long are one row of the ledger.
STRETCH_SECONDS = 60.0
#: A table that another load publishes is planned again after so long.
_ELSEWHERE_SECONDS = 1.0
#: What a comparison may take at the very end.
_LAST_SECONDS = 3.0
#: WAL that a table which does not follow may keep from being released: each read sends all behind the slot again.
_KEPT_FOR_OTHERS = 256_000_000


class Rounds:
    """The rounds of one run, over all connections that it opens one after the other."""

    def __init__(self, following: Following[Database], tables: list[Table]) -> None:
        self._following, self._source = following, following.source
        self._loads = Loads(following, tables)
        self._followed: dict[str, Followed] = {}
        self._sides = Sides()
        self._goal: int | None = None
        self._read_to = 0
        self._noted = 0.0

    @property
    def side(self) -> str:
        """Whose connection was in use: `source` or `warehouse`."""
        return self._sides.side

    async def run(self, connections: Connections) -> None:
        """Rounds until following is over.

        Raises:
            MedallionError: nothing can follow, or a budget is reached; or an end is down, and it helps to begin again.
        """
        self._sides, self._read_to = Sides(), 0
        for followed in list(self._followed.values()):
            await self._leave(connections, followed)
        comparer = Comparer(connections.comparing, self._compared)
        with self._sides.reading():
            if self._goal is None:
                self._goal = await end_of_log(connections.origin)
        while not self._following.is_over:
            began = time.monotonic()
            await self._enter(connections)
            if self._followed:
                await self._round(connections)
                await self._show(connections)
                await self._end_stretches(connections, comparer)
            await self._note()
            if self._has_caught_up():
                break
            await self._pause(_ROUND_SECONDS - (time.monotonic() - began))
        await self._end(connections, comparer)

    async def leave_all(self) -> None:
        """End the loads that are under way."""
        await self._loads.cancel()

    # -- tables

    async def _enter(self, connections: Connections) -> None:
        """Have tables follow that do not yet, or begin an ordinary load of them."""
        for table in self._loads.waiting(self._followed):
            followed = None
            if not self._loads.must_load(table.name):
                followed = await self._planned(connections, table)
            if followed is None:
                self._loads.begin(table.name)
            else:
                self._followed[table.name] = followed
                self._read_to = 0  # it may have changes before what the others have reached
                self._loads.follows(table.name)
        self._loads.refuse_if_none_can(self._followed)

    async def _planned(self, connections: Connections, table: Table) -> Followed | None:
        with self._sides.reading():
            try:
                names = await names_of(connections.origin, self._source)
                return await enter(connections.warehouse, connections.origin, self._source, table, names.publication)
            except (MedallionError, asyncpg.PostgresError):
                if connections.origin.is_closed() or connections.warehouse.is_closed():
                    raise
                return None  # its load meets the error again, and stores it in the ledger

    async def _leave(self, connections: Connections, followed: Followed, problem: BaseException | None = None) -> None:
        """The table does not follow any more: it is planned again, or has an ordinary load if a commit failed."""
        elsewhere = isinstance(problem, commits.MovedOn | LoadLocked)
        self._loads.leaves(
            followed.table.name,
            must_load=problem is not None and not elsewhere,
            after=_ELSEWHERE_SECONDS if elsewhere else 0.0,
        )
        self._followed.pop(followed.table.name, None)
        await connections.warehouse.execute(f"drop table if exists {followed.inbox}")
        if followed.batch_id:
            await stretches.close(connections.warehouse, followed.batch_id)
            await self._following.stretch_ended([followed.batch_id])

    # -- one round

    async def _round(self, connections: Connections) -> None:
        warehouse, where = connections.warehouse, f"source {self._source.name}"
        with self._sides.reading():
            if await _flushed(connections.origin) == self._read_to:
                return  # the source has written nothing since
        async with contextlib.AsyncExitStack() as locked:
            await locked.enter_async_context(log_locked(warehouse, self._source, where))
            with self._sides.reading():
                capture = await advance_locked(warehouse, connections.origin, self._source)
            for followed in list(self._followed.values()):
                if not capture.is_readable or capture.confirmed is None or capture.confirmed > followed.reached:
                    await self._leave(connections, followed)  # the slot no longer has its changes
            if not self._followed:
                return
            wanted = [followed.wanted for followed in self._followed.values()]
            async with contextlib.aclosing(
                read_log(warehouse, connections.log, self._sides, capture, wanted, rows=ROWS)
            ) as cuts:
                async for cut in cuts:
                    if cut.last:
                        await locked.aclose()
                    await self._commit(connections, cut, capture.names.publication)
                    if self._following.stop.is_set() and not cut.last:
                        connections.log.terminate()
                        return
        self._read_to = cut.ends
        await self._let_go(connections, capture)

    async def _commit(self, connections: Connections, cut: Cut, publication: str) -> None:
        with self._sides.reading():
            oids = [followed.oid for followed in self._followed.values()]
            facts = await read_facts(connections.origin, oids, publication)
        for followed in list(self._followed.values()):
            if facts.get(followed.oid) != followed.facts:
                await self._leave(connections, followed)
        changed = [followed for followed in self._followed.values() if followed.oid in cut.facts]
        done = await asyncio.gather(
            *(self._commit_table(connections, followed, cut) for followed in changed), return_exceptions=True
        )
        for followed, outcome in zip(changed, done, strict=True):
            if isinstance(outcome, BudgetReached) or (outcome is not None and connections.is_lost(outcome)):
                raise outcome
            if outcome is not None:
                await self._leave(connections, followed, outcome)
        for followed in self._followed.values():
            followed.reached = cut.ends
        self._measure(cut)

    async def _commit_table(self, connections: Connections, followed: Followed, cut: Cut) -> None:
        relation, facts = followed.inbox, cut.facts[followed.oid]
        changes = Changes.of(relation, followed.reached, cut.ends, facts)
        if changes.columns and not set(followed.planned.shape.names) <= set(changes.columns):
            raise commits.MovedOn
        async with connections.committing() as ends:
            await commits.commit(ends, followed, changes)
        self._loads.committed(followed.table.name)
        progress = self._following.progress
        progress.commits += 1
        progress.changes += changes.rows
        progress.last_commit = datetime.now(UTC)

    async def _show(self, connections: Connections, *, now: bool = False) -> None:
        """Store the positions of tables without changes now and then: the slot advances to the lowest of all."""
        often = max(_SHOW_SECONDS, len(self._followed) * _SHOW_SHARE)
        for followed in list(self._followed.values()):
            is_behind = followed.reached != followed.stored
            if (now and is_behind) or time.monotonic() - followed.moved >= (often if is_behind else STRETCH_SECONDS):
                try:
                    async with connections.committing() as ends:
                        await commits.show(ends, followed)
                except (commits.MovedOn, MedallionError, asyncpg.PostgresError) as problem:
                    if connections.is_lost(problem):
                        raise
                    await self._leave(connections, followed, problem)

    def _measure(self, cut: Cut) -> None:
        lag = self._following.progress.lag
        lag.bytes = cut.behind
        if cut.last:
            lag.seconds = 0.0
        elif cut.committed_at is not None:
            lag.seconds = max(0.0, (datetime.now(UTC) - cut.committed_at).total_seconds())

    # -- the end of a stretch

    async def _end_stretches(self, connections: Connections, comparer: Comparer) -> None:
        for followed in list(self._followed.values()):
            if not followed.batch_id or time.monotonic() - followed.began < STRETCH_SECONDS:
                continue
            if followed.changed:
                await self._end_stretch(connections, comparer, followed)
            elif await reloads.reason(connections.warehouse, followed.target.source, followed.target.table):
                await self._leave(connections, followed)
            else:
                followed.began = time.monotonic()

    async def _end_stretch(self, connections: Connections, comparer: Comparer, followed: Followed) -> None:
        batch_id, followed.batch_id = followed.batch_id, 0
        followed.changed = False
        if not await comparer.begin(followed, batch_id):
            await stretches.close(connections.warehouse, batch_id)
        await self._following.stretch_ended([batch_id])
        # Planned again: a reload was requested, or the declaration and raw do not fit any more.
        self._followed.pop(followed.table.name)

    def _compared(self, followed: Followed, found: stretches.Compared) -> None:
        if found.result not in ("match", "not_compared"):
            self._following.tell(f"{followed.target.where}: {found.result}; its next plan says what is read again")

    async def _end(self, connections: Connections, comparer: Comparer) -> None:
        """The last positions, and the ends of all stretches."""
        await self._show(connections, now=True)
        until, unfinished = time.monotonic() + _LAST_SECONDS, [await comparer.end(_LAST_SECONDS)]
        for followed in list(self._followed.values()):
            if followed.changed and time.monotonic() < until:
                await self._end_stretch(connections, comparer, followed)
                unfinished.append(await comparer.end(max(0.1, until - time.monotonic())))
            elif followed.changed:
                unfinished.append(followed.batch_id)
        for batch_id in unfinished:
            if batch_id:
                await stretches.close(connections.warehouse, batch_id)
        async with contextlib.AsyncExitStack() as locked:
            await locked.enter_async_context(log_locked(connections.warehouse, self._source, "follow"))
            await advance_locked(connections.warehouse, connections.origin, self._source)

    # -- around a round

    async def _let_go(self, connections: Connections, capture: Capture) -> None:
        """Positions of tables that do not follow are given up, once they keep too much of the log: their next load
        compares them."""
        if capture.retained > min(_KEPT_FOR_OTHERS, capture.log.limit) and self._loads.failing:
            await self._loads.let_go(connections.warehouse, self._followed)

    def _has_caught_up(self) -> bool:
        if not self._following.until_caught_up or self._goal is None or self._loads.under_way:
            return False
        return all(followed.reached >= self._goal for followed in self._followed.values()) and self._loads.all_known(
            self._followed
        )

    async def _note(self) -> None:
        if time.monotonic() - self._noted >= _SHOW_SECONDS:
            self._noted = time.monotonic()
            self._following.progress.failing = self._loads.failing
            await self._following.note(self._following.progress)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._following.stop.wait(), max(_SHORTEST_PAUSE_SECONDS, seconds))


async def _flushed(origin: Connection[Record]) -> int:
    return position.number(await origin.fetchval("select pg_current_wal_flush_lsn()::text"))
