"""Work that must complete although its task is being cancelled."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


async def in_spite_of_cancellation(work: Coroutine[None, None, T]) -> T:
    """Wait for the work to end. A task timeout cancels again at every await until the task is left.

    The work runs in a separate task, which is not cancelled; it must bound its own time.
    """
    running = asyncio.create_task(work)
    while not running.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(running)
    return running.result()
