"""Slots of the global concurrency limits `source-<name>` and `warehouse`: taken once, and passed on within a run.

    async with shared_slots("shop", others=…):     by the flow, around all tables of a source
        ...
            async with slots("shop"):              by each task: one slot of the source and one of the warehouse
                ...

A request for slots takes 20 ms, a refused one is repeated after a while, and Prefect has every task ask: 500 tables
of which each loads in 0.085 s took 265 s. Here a table that ends hands its slots to the next one of the same run.

The limits remain limits across all runs and workers: each slot in use is held at the server by a lease of its own, see
leases.py. While others run, a slot goes back
to the server from time to time, so that a run of many tables cannot keep all of them until its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import ContextVar

from prefect.client.orchestration import PrefectClient, get_client
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError

from flows.failures.cancellation import in_spite_of_cancellation
from flows.tasks.leases import RELEASE_SECONDS, Limits, Slot

_RENEW_SECONDS = 20.0
#: A refused request is repeated after the first time, later ones after up to the second.
_POLL_SECONDS = (0.25, 1.0)
#: Between two tables of a run there are some 0.05 s.
_LINGER_SECONDS = 1.0
#: So often a run gives one slot back while others run. It asks for it again after a pause that is longer than they wait
#: between two requests.
TURN_SECONDS = 5.0
_PAUSE_SECONDS = 1.5
#: The same between the sources of one process.
_NEIGHBOUR_TURN_SECONDS = 0.25

Others = Callable[[], Awaitable[bool]]
"""Whether other runs, in any process, may be waiting for slots."""


class Slots:
    """The slots that one run holds for one source. Use it by `shared_slots`, within one event loop."""

    def __init__(self, source: str, client: PrefectClient, others: Others) -> None:
        self._limits = Limits((f"source-{source}", "warehouse"), client)
        self._loop = asyncio.get_running_loop()
        self._others = others
        self._idle: list[Slot] = []
        self._in_use: set[Slot] = set()
        self._waiting: deque[asyncio.Future[Slot]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()
        self._freed = asyncio.Event()
        # Tasks made here must not belong to the table that happens to be the cause: Prefect frees what it holds.
        self._context = contextvars.copy_context()
        self._may_share = False
        self._gave_way_at = self._resume_at = time.monotonic()
        self._start(self._renew())
        self._start(self._take_turns())

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """A slot of the source and one of the warehouse, for the duration of the block.

        Raises:
            ConcurrencySlotAcquisitionError: the server refuses the request, or does not respond.
        """
        slot = await self._take()
        self._in_use.add(slot)
        try:
            yield
        finally:
            self._in_use.discard(slot)
            self._hand_on(slot)

    async def close(self) -> None:
        """Give all slots back."""
        self._closed.set()
        self._freed.set()
        for slot in self._idle:
            self._release(slot)
        self._idle.clear()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def hear_of_free_slot(self) -> None:
        """Ask now, not after the pause."""
        self._freed.set()

    # -- within the process

    async def _take(self) -> Slot:
        if self._idle:
            return self._idle.pop()
        future: asyncio.Future[Slot] = self._loop.create_future()
        self._waiting.append(future)
        if self._asking is None or self._asking.done():
            self._asking = self._start(self._ask())
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._deliver(future.result())
            raise

    def _hand_on(self, slot: Slot) -> None:
        """To the next table that waits; back to the server if it is the turn of others, or if none waits for long."""
        if slot.is_lost or self._gives_way():
            self._release(slot)
        else:
            self._deliver(slot)

    def _deliver(self, slot: Slot) -> None:
        if self._closed.is_set():
            self._release(slot)
        elif (waiting := self._next_waiting()) is not None:
            waiting.set_result(slot)
        elif self._neighbours_wait():
            self._release(slot)
        else:
            self._idle.append(slot)
            self._loop.call_later(_LINGER_SECONDS, self._end_lingering, slot, time.monotonic())

    def _gives_way(self) -> bool:
        now = time.monotonic()
        to_neighbour = now > self._gave_way_at + 2 * _NEIGHBOUR_TURN_SECONDS and self._neighbours_wait()
        if not (self._may_share or to_neighbour):
            return False
        self._may_share = False
        # A neighbour hears at once that a slot is free; another process asks after a while.
        self._gave_way_at, self._resume_at = now, now + (_NEIGHBOUR_TURN_SECONDS if to_neighbour else _PAUSE_SECONDS)
        return True

    @property
    def waits(self) -> bool:
        """Whether a table waits for a slot."""
        return any(not future.done() for future in self._waiting)

    def _neighbours_wait(self) -> bool:
        """Whether a table of another source of this process does: a pipeline loads several sources at once."""
        return any(pool.waits for pool in self._neighbours())

    def _neighbours(self) -> list[Slots]:
        return [pool for pool in _open if pool is not self and pool._loop is self._loop]

    def _next_waiting(self) -> asyncio.Future[Slot] | None:
        while self._waiting:
            if not (future := self._waiting.popleft()).done():
                return future
        return None

    def _end_lingering(self, slot: Slot, since: float) -> None:
        if slot in self._idle and time.monotonic() >= since + _LINGER_SECONDS:
            self._idle.remove(slot)
            self._release(slot)

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work, context=self._context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _sleep(self, seconds: float) -> None:
        """Not beyond the end of the run."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), seconds)

    # -- at the server

    async def _ask(self) -> None:
        """Ask for one slot after another, as long as tables wait."""
        pause, longest = _POLL_SECONDS
        while self.waits and not self._closed.is_set():
            if (left := self._resume_at - time.monotonic()) > 0:
                await self._sleep(left)
                continue
            try:
                slot = await self._limits.acquire()
            except Exception as problem:
                while (waiting := self._next_waiting()) is not None:
                    waiting.set_exception(_refused(self._limits, problem))
                return
            if slot is not None:
                pause = _POLL_SECONDS[0]
                self._deliver(slot)
                continue
            self._freed.clear()
            with contextlib.suppress(TimeoutError):
                spread = random.uniform(0.75, 1.25)  # noqa: S311 # nosec B311 - no secret
                await asyncio.wait_for(self._freed.wait(), pause * spread)
            pause = min(pause * 2, longest)

    def _release(self, slot: Slot) -> None:
        self._start(self._give_back(slot))

    async def _give_back(self, slot: Slot) -> None:
        await self._limits.give_back(slot)
        for pool in self._neighbours():
            pool.hear_of_free_slot()

    async def _renew(self) -> None:
        """Renew the leases until the end. A slot that was lost is not passed on, so that the limit holds again."""
        while not self._closed.is_set():
            await self._sleep(_RENEW_SECONDS)
            for slot in (*self._in_use, *self._idle):
                if not self._closed.is_set():
                    await self._limits.renew(slot)
            self._idle = [slot for slot in self._idle if not slot.is_lost]

    async def _take_turns(self) -> None:
        while not self._closed.is_set():
            await self._sleep(TURN_SECONDS)
            if self._in_use and not self._closed.is_set():
                # Unknown is no reason to stop: then the slots are kept a little longer.
                with contextlib.suppress(Exception):
                    self._may_share = await self._others()


_pools: ContextVar[dict[str, Slots] | None] = ContextVar("medallion_slots", default=None)
_open: set[Slots] = set()


async def _none() -> bool:
    return False


@asynccontextmanager
async def shared_slots(source: str, others: Others = _none) -> AsyncIterator[Slots]:
    """Within this block, tasks that ask for `slots(source)` pass them on to each other."""
    async with get_client() as client:
        pool = Slots(source, client, others)
        token = _pools.set({**(_pools.get() or {}), source: pool})
        _open.add(pool)
        try:
            yield pool
        finally:
            _pools.reset(token)
            _open.discard(pool)
            await in_spite_of_cancellation(_closed_in_time(pool))


async def _closed_in_time(pool: Slots) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2 * RELEASE_SECONDS):
            await pool.close()


@asynccontextmanager
async def slots(source: str) -> AsyncIterator[None]:
    """One slot of the source and one of the warehouse, for the duration of a load: those of the run, if it shares any.

    Raises:
        ConcurrencySlotAcquisitionError: the server refuses the request, or does not respond.
    """
    pool = (_pools.get() or {}).get(source)
    if pool is not None:
        async with pool.slot():
            yield
        return
    async with shared_slots(source) as own, own.slot():
        yield


def _refused(limits: Limits, problem: Exception) -> ConcurrencySlotAcquisitionError:
    error = ConcurrencySlotAcquisitionError(f"no slots of {limits}: {type(problem).__name__}")
    error.__cause__ = problem
    return error
