"""A stop that waits for the next commit: SIGTERM, which workers send to cancel, and Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def stops_at_a_commit(stop: asyncio.Event) -> Iterator[None]:
    """Within the block, the first such signal sets the event, and takes effect when the block ends; a second one takes
    effect at once. In the event loop that the event belongs to."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, received = asyncio.get_running_loop(), list[int]()
    before: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        if received and callable(before[number]):
            before[number](number, frame)
        received.append(number)
        loop.call_soon_threadsafe(stop.set)

    for known in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(known)
        if callable(handler) or handler == signal.SIG_DFL:
            before[known] = handler
            signal.signal(known, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])
