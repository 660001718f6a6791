"""The lists of a child endpoint, one per parent record, several in parallel and in the parents' order."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from flows.kinds.api.pages.endpoint import EndpointReader, Page
from flows.kinds.api.pages.place import Place

# This many consecutive parents from the first on are not deleted by chance between two loads of one run.
_MOST_GONE = 10


@dataclass(frozen=True, slots=True)
class ParentRecord:
    """A parent record: its keys for the path, the first of them for raw, and its position in the order."""

    keys: Mapping[str, str]
    place: Place

    @property
    def key(self) -> str:
        """The parent column's value of its children in raw."""
        return next(iter(self.keys.values()))


async def read_children(
    reader: EndpointReader,
    parents: AsyncIterator[ParentRecord],
    width: int,
    with_children: Callable[[], Awaitable[ParentRecord | None]] | None = None,
) -> AsyncGenerator[Page, None]:
    """Yield the pages of each parent's list, parent by parent; up to `width` lists are read in parallel.

    The last page of a list has the parent's position: resuming after it repeats no list. Memory: the lists being read.
    A parent deleted meanwhile (404, 410) has no children. If many consecutive parents are not found, a parent known
    to be one `with_children` is requested: some APIs respond with 404 for an empty list.

    Raises:
        SourceError: none of the first parents has a list, so the path is probably wrong.
        As `flows.kinds.api.pages.endpoint.read_pages`; all lists before the one that failed have been yielded.
    """
    gone: int | None = 0
    under_way: deque[tuple[ParentRecord, asyncio.Task[list[Page]]]] = deque()
    try:
        more = True
        while more or under_way:
            while more and len(under_way) < width:
                parent = await anext(parents, None)
                if parent is None:
                    more = False
                else:
                    under_way.append((parent, asyncio.create_task(_whole_list(reader, parent))))
            if not under_way:
                break
            parent, task = under_way[0]
            pages = await task
            under_way.popleft()
            gone = None if gone is None or not pages[0].gone else gone + 1
            if gone == _MOST_GONE:
                known = await with_children() if with_children is not None else None
                if known is None or (await _whole_list(reader, known))[0].gone:
                    raise reader.no_list(gone)
                gone = None
            for page in pages[:-1]:
                yield replace(page, place=None, parent=parent.key)
            yield replace(pages[-1], place=parent.place, parent=parent.key)
    finally:
        for _, task in under_way:
            task.cancel()
        await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)


async def _whole_list(reader: EndpointReader, parent: ParentRecord) -> list[Page]:
    async with contextlib.aclosing(reader.pages(of=parent.keys, side_by_side=False)) as pages:
        return [page async for page in pages]
