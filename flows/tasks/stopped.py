"""The run's lock, which shows that it is alive; and its end if a person or its worker stops it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext

from flows.access import addresses
from flows.failures.cancellation import in_spite_of_cancellation
from flows.state import runs
from flows.state.active_runs import hold_run
from flows.values.errors import Stopped

_CANCELLED = frozenset({StateType.CANCELLING, StateType.CANCELLED})


@asynccontextmanager
async def living(run_id: int, where: str) -> AsyncIterator[None]:
    """Hold the run's lock within this block; record what stopped it, if anything."""
    async with addresses.connect(addresses.warehouse(), side="warehouse", application="medallion run") as life:
        await hold_run(life, run_id)
        with _ctrl_c.noted():
            try:
                yield
            except Exception:
                raise
            except BaseException as stop:
                await close_stopped_run(run_id, stop, where)
                raise


def explain_stop(stop: BaseException, where: str) -> Stopped:
    """The reason of a stop that is not an `Exception`: Ctrl-C, SIGTERM, a cancelled coroutine."""
    if isinstance(stop, KeyboardInterrupt) or _ctrl_c.pressed or _cancelled_at_server():
        return Stopped(
            runs.CANCELLED,
            where=where,
            fix="run it again: it resumes from the last commit",
        )
    return Stopped(
        runs.TERMINATED,
        where=where,
        fix="runs of deployments are restarted automatically; start other runs again: they resume from the last commit",
        retryable=True,
    )


async def close_stopped_run(run_id: int, stop: BaseException, where: str) -> None:
    """Record its end, despite the running cancellation."""
    ended = explain_stop(stop, where).what

    async def write() -> None:
        async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
            await runs.close_stopped_run(warehouse, run_id, ended)

    await in_spite_of_cancellation(write())


class _CtrlC:
    """Whether Ctrl-C was pressed: to coroutines it is a cancellation like any other."""

    def __init__(self) -> None:
        self.pressed = False
        self._runs = 0

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Record it within this block. Parallel runs share one handler."""
        handler = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or (not self._runs and not callable(handler)):
            yield
            return
        if not self._runs:
            self.pressed = False
            self._before = handler
            signal.signal(signal.SIGINT, self._note)
        self._runs += 1
        try:
            yield
        finally:
            self._runs -= 1
            if not self._runs:
                signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.pressed = True
        if callable(self._before):
            self._before(number, frame)


_ctrl_c = _CtrlC()


def _cancelled_at_server() -> bool:
    """Whether this flow run, or the one of this process, was cancelled."""
    context = FlowRunContext.get()
    ids = {os.environ.get("PREFECT__FLOW_RUN_ID"), str(context.flow_run.id) if context and context.flow_run else None}
    try:
        with get_client(sync_client=True) as client:
            states = [client.read_flow_run(UUID(run)).state for run in ids if run]
    except Exception:  # unknown if the server does not respond
        return False
    return any(state is not None and state.type in _CANCELLED for state in states)
