"""Slots of the global concurrency limits `source-<name>` and `warehouse`: taken once, and passed on within a run.

    async with shared_slots("shop", others=…):     by the flow, around all tables of a source
        ...
            async with slots("shop"):              by each task: one slot of the source and one of the warehouse
                ...

A request for slots takes 20 ms, a refused one is repeated after a while, and Prefect has every task ask: 500 tables
of which each loads in 0.085 s took 265 s. Here a table that ends hands its slots to the next one of the same run.

The limits remain limits across all runs and workers: each slot in use is held at the server by a lease of its own,
which is renewed. A killed process renews nothing, and the server frees its slots. While others run, a slot goes back
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
from dataclasses import dataclass, field
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger

from flows.failures.cancellation import in_spite_of_cancellation

#: The slots of a killed process are freed after this time; Prefect allows no less.
LEASE_SECONDS = 60.0
_RENEW_SECONDS = 20.0
#: A refused request is repeated after the first time, later ones after up to the second.
_POLL_SECONDS = (0.25, 1.0)
#: Between two tables of a run there are some 0.05 s.
_LINGER_SECONDS = 1.0
#: So often a run gives one slot back while others run. It asks for it again after a pause that is longer than they wait
#: between two requests.
TURN_SECONDS = 5.0
_PAUSE_SECONDS = 1.5
#: A server that does not respond must not delay the end of a run; its leases end without us.
_CLOSE_SECONDS = 10.0

_LOCKED, _GONE = 423, (404, 410)

Others = Callable[[], Awaitable[bool]]
"""Whether other runs, in any process, may be waiting for slots."""


@dataclass(slots=True, eq=False)
class _Slot:
    """One slot of each limit. Without a lease: no limit of these names exists, so nothing is counted."""

    lease: UUID | None
    renewed: float = field(default_factory=time.monotonic)
    is_lost: bool = False


class Slots:
    """The slots that one run holds for one source. Use it by `shared_slots`, within one event loop."""

    def __init__(self, source: str, client: PrefectClient, others: Others) -> None:
        self.names = [f"source-{source}", "warehouse"]
        self._client = client
        self._others = others
        self._idle: list[_Slot] = []
        self._in_use: set[_Slot] = set()
        self._waiting: deque[asyncio.Future[_Slot]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()
        # Tasks made here must not belong to the table that happens to be the cause: Prefect frees what it holds.
        self._context = contextvars.copy_context()
        self._may_share = False
        self._resume_at = 0.0
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
        for slot in self._idle:
            self._release(slot)
        self._idle.clear()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- within the process

    async def _take(self) -> _Slot:
        if self._idle:
            return self._idle.pop()
        future: asyncio.Future[_Slot] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if self._asking is None or self._asking.done():
            self._asking = self._start(self._ask())
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._deliver(future.result())
            raise

    def _hand_on(self, slot: _Slot) -> None:
        """To the next table that waits; back to the server if it is the turn of others, or if none waits for long."""
        if slot.is_lost or self._gives_way():
            self._release(slot)
        else:
            self._deliver(slot)

    def _deliver(self, slot: _Slot) -> None:
        if self._closed.is_set():
            self._release(slot)
        elif (waiting := self._next_waiting()) is not None:
            waiting.set_result(slot)
        else:
            self._idle.append(slot)
            asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._end_lingering, slot, time.monotonic())

    def _gives_way(self) -> bool:
        if not self._may_share:
            return False
        self._may_share = False
        self._resume_at = time.monotonic() + _PAUSE_SECONDS
        return True

    def _next_waiting(self) -> asyncio.Future[_Slot] | None:
        while self._waiting:
            if not (future := self._waiting.popleft()).done():
                return future
        return None

    def _end_lingering(self, slot: _Slot, since: float) -> None:
        if slot in self._idle and time.monotonic() >= since + _LINGER_SECONDS:
            self._idle.remove(slot)
            self._release(slot)

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, context=self._context)
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
        while any(not future.done() for future in self._waiting) and not self._closed.is_set():
            if (left := self._resume_at - time.monotonic()) > 0:
                await self._sleep(left)
                continue
            try:
                slot = await self._acquire()
            except Exception as problem:
                while (waiting := self._next_waiting()) is not None:
                    waiting.set_exception(_refused(self.names, problem))
                return
            if slot is not None:
                pause = _POLL_SECONDS[0]
                self._deliver(slot)
                continue
            await self._sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311 # nosec B311 - spreads requests
            pause = min(pause * 2, longest)

    async def _acquire(self) -> _Slot | None:
        """A slot, or None: all are in use."""
        try:
            response = await self._client.increment_concurrency_slots_with_lease(
                self.names, slots=1, mode="concurrency", lease_duration=LEASE_SECONDS
            )
        except httpx.HTTPStatusError as problem:
            if problem.response.status_code == _LOCKED:
                return None
            raise
        granted = response.json()
        if not granted["limits"]:
            _log("the concurrency limits %s do not exist: loads are not limited", " and ".join(self.names))
            return _Slot(None)
        return _Slot(UUID(granted["lease_id"]))

    def _release(self, slot: _Slot) -> None:
        if slot.lease is not None and not slot.is_lost:
            self._start(self._give_back(slot.lease))

    async def _give_back(self, lease: UUID) -> None:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._client.release_concurrency_slots_with_lease(lease)
        except Exception as problem:  # the lease ends in any case
            _log(
                "a slot of %s could not be given back (%s): the server frees it within %.0f s",
                " and ".join(self.names),
                type(problem).__name__,
                LEASE_SECONDS,
            )

    async def _renew(self) -> None:
        """Renew the leases until the end. A slot without a lease is not passed on, so that the limit holds again."""
        while not self._closed.is_set():
            await self._sleep(_RENEW_SECONDS)
            for slot in (*self._in_use, *self._idle):
                if slot.lease is None or slot.is_lost or self._closed.is_set():
                    continue
                try:
                    await self._client.renew_concurrency_lease(slot.lease, lease_duration=LEASE_SECONDS)
                    slot.renewed = time.monotonic()
                except Exception as problem:
                    gone = isinstance(problem, httpx.HTTPStatusError) and problem.response.status_code in _GONE
                    if gone or time.monotonic() > slot.renewed + LEASE_SECONDS:
                        self._lose(slot)

    def _lose(self, slot: _Slot) -> None:
        slot.is_lost = True
        if slot in self._idle:
            self._idle.remove(slot)
        _log("the server no longer counts a slot of %s: until this table ends, one more may load", self.names[0])

    async def _take_turns(self) -> None:
        while not self._closed.is_set():
            await self._sleep(TURN_SECONDS)
            if self._in_use and not self._closed.is_set():
                # Unknown is no reason to stop: then the slots are kept a little longer.
                with contextlib.suppress(Exception):
                    self._may_share = len(_open) > 1 or await self._others()


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
        async with asyncio.timeout(2 * _CLOSE_SECONDS):
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


def _refused(names: list[str], problem: Exception) -> ConcurrencySlotAcquisitionError:
    error = ConcurrencySlotAcquisitionError(f"no slots of {' and '.join(names)}: {type(problem).__name__}")
    error.__cause__ = problem
    return error


def _log(message: str, *values: object) -> None:
    try:
        get_run_logger().warning(message, *values)
    except MissingContextError:
        get_logger("concurrency").warning(message, *values)
