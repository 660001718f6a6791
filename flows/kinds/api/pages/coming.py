"""Pages in flight, with a timeout per wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from types import TracebackType

from flows.kinds.api.pages.page import Page


class NotYet(Exception):
    """The next page has not arrived in time; it is still in flight."""


class Coming:
    """The pages of a generator. A page that has not arrived in time is not abandoned: the next call waits for it."""

    def __init__(self, pages: AsyncGenerator[Page, None]) -> None:
        self._pages = pages
        self._next: asyncio.Task[Page | None] | None = None

    async def __aenter__(self) -> Coming:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A generator cannot be closed while a caller waits for it.
        if self._next is not None:
            self._next.cancel()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await self._next

    async def next(self, within: float | None = None) -> Page | None:
        """The next page; None at the end.

        Raises:
            NotYet: it has not arrived within so many seconds.
            MedallionError: the source failed.
        """
        if self._next is None:
            self._next = asyncio.create_task(_following(self._pages))
        done, _ = await asyncio.wait((self._next,), timeout=within)
        if not done:
            raise NotYet
        task, self._next = self._next, None
        return task.result()


async def _following(pages: AsyncGenerator[Page, None]) -> Page | None:
    return await anext(pages, None)
