"""The side (source or warehouse) in use, so that an error names the right one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import TypeVar

Item = TypeVar("Item")


class Sides:
    """Work between a source and the warehouse. `side` is whose connection is in use: `source` or `warehouse`."""

    side: str = "warehouse"

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Errors inside belong to the source. It keeps `side` on error, for the error record."""
        before, self.side = self.side, "source"
        yield
        self.side = before

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Errors inside belong to the warehouse, also within `reading`."""
        before, self.side = self.side, "warehouse"
        yield
        self.side = before

    async def each(self, items: AsyncIterator[Item]) -> AsyncGenerator[Item, None]:
        """The items; an error belongs to the source while an item is awaited, not while it is used."""
        iterator = aiter(items)
        while True:
            with self.reading():
                try:
                    item = await anext(iterator)
                except StopAsyncIteration:
                    break
            with self.writing():
                yield item
