"""Pages fetched before their turn, and handed over in turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from itertools import chain
from types import TracebackType

from flows.kinds.api.http.answer import Answer
from flows.kinds.api.http.reader import Reader
from flows.kinds.api.http.request import PageRequest
from flows.kinds.api.pages.walk import Walk


class Ahead:
    """Fetches up to `width` pages at one time, in the order in which they are expected to be asked for.

    With a width of 1 the next page is asked for while the one before it is landed: the API sees one request at a time,
    and neither side waits for the other. 0 asks for nothing before its turn. What is asked for decides: a page that
    was not expected is fetched by itself, and what had been fetched for another way is dropped. At most `width` pages
    wait in memory.
    """

    def __init__(self, reader: Reader, walk: Walk, width: int) -> None:
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
        """The answer to `request`, perhaps fetched already."""
        if self._under_way and self._under_way[0][0].identity == request.identity:
            answer = await self._under_way[0][1]
            self._under_way.popleft()
            self._fill(number)
            return answer
        await self._drop()
        return await self._reader.fetch(request, number)

    def expect(self, request: PageRequest, answer: Answer, number: int) -> None:
        """Begin with `request`, which comes after page `number`, and with those that can be computed to follow it."""
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
