"""Prefetching of pages."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from itertools import chain
from types import TracebackType
from typing import Protocol

from flows.kinds.api.http.answer import Answer
from flows.kinds.api.http.request import PageRequest
from flows.kinds.api.pages.walk import Walk


class Fetches(Protocol):
    """Fetches pages."""

    async def fetch(self, request: PageRequest, number: int) -> Answer:
        """The response to `request`, the read's page `number`."""
        ...


class Ahead:
    """Prefetches up to `width` pages in parallel, in the expected order of requests.

    With a width of 1 the next page is fetched while the previous one is landed: the API sees one request at a time, and
    neither side waits for the other. 0 disables prefetching. The actual request decides: an unexpected page is
    fetched on its own, and prefetched pages of another path are dropped. At most `width` pages are in memory.
    """

    def __init__(self, reader: Fetches, walk: Walk, width: int) -> None:
        self._reader, self._walk, self._width = reader, walk, width
        self._under_way: deque[tuple[PageRequest, asyncio.Task[Answer]]] = deque()
        self._expected: Iterator[PageRequest] = iter(())

    async def __aenter__(self) -> Ahead:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._drop()

    async def answer(self, request: PageRequest, number: int) -> Answer:
        """The response to `request`, possibly prefetched."""
        if self._under_way and self._under_way[0][0].identity == request.identity:
            answer = await self._under_way[0][1]
            self._under_way.popleft()
            self._fill(number)
            return answer
        await self._drop()
        return await self._reader.fetch(request, number)

    def expect(self, request: PageRequest, answer: Answer, number: int) -> None:
        """Prefetch `request`, which follows page `number`, and the computable requests after it."""
        if self._width and not self._under_way:
            computed = self._walk.ahead(request, answer) if self._width > 1 else iter(())
            self._expected = chain((request,), (later for later in computed if later.identity != request.identity))
            self._fill(number)

    def _fill(self, number: int) -> None:
        while len(self._under_way) < self._width and (request := next(self._expected, None)) is not None:
            place = number + 1 + len(self._under_way)
            self._under_way.append((request, asyncio.create_task(self._reader.fetch(request, place))))

    async def _drop(self) -> None:
        tasks = [task for _, task in self._under_way]
        self._under_way.clear()
        self._expected = iter(())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
