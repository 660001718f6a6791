"""Questions that block, such as those to a store of backups, asked in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Blocking(Generic[Answer]):
    """Asks in a thread. A thread cannot be stopped: while one hangs, no other is started, and no exit waits for it."""

    _asked: asyncio.Future[Answer] | None = field(default=None, init=False)

    async def ask(self, question: Callable[[], Answer]) -> Answer:
        """The answer.

        Raises:
            TimeoutError: the thread of a former question still hangs.
        """
        if self._asked is not None and not self._asked.done():
            raise TimeoutError
        loop = asyncio.get_running_loop()
        asked: asyncio.Future[Answer] = loop.create_future()
        self._asked = asked

        def settle(answer: Answer | None, problem: Exception | None) -> None:
            if asked.cancelled():
                return
            if problem is not None:
                asked.set_exception(problem)
            else:
                asked.set_result(answer)  # type: ignore[arg-type]  # None only with a problem, or as the answer

        def run() -> None:
            answer, problem = None, None
            try:
                answer = question()
            except Exception as raised:
                problem = raised
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, answer, problem)

        threading.Thread(target=run, name="blocking check", daemon=True).start()
        # What gives up waiting must not make the future look as if the thread had ended.
        return await asyncio.shield(asked)
