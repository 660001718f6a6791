"""The lists of a child endpoint, one per parent record, several in parallel and in the parents' order."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from flows.kinds.api.declared.parts import Requested
from flows.kinds.api.pages.endpoint_reader import EndpointReader
from flows.kinds.api.pages.page import Page, Start
from flows.kinds.api.pages.place import Place
from flows.values.errors import ConfigurationError, MedallionError, RateLimited, SourceError, SourceUnavailable

# This many consecutive parents from the first on are not deleted, or refused, by chance.
_MOST_GONE = 10
# So many consecutive lists that fail after all attempts are an API that is down.
_MOST_DOWN = 3
# Parents of one list that are noted as refused: they are stored, and requested again one by one.
_MOST_REFUSED = 1000


@dataclass(frozen=True, slots=True)
class ParentRecord:
    """A parent record: its keys and other values of it for requests, and its position in the order.

    `copied`: what raw copies into the rows of its children, its first key above all. `lacks`: values that it has not.
    `since`: where its list starts, as a value of the cursor's column. `is_last`: no other list of the parent follows.
    """

    keys: Mapping[str, str]
    place: Place
    values: Mapping[str, str | int] = field(default_factory=dict)
    copied: str = ""
    lacks: tuple[str, ...] = ()
    since: str | None = None
    is_last: bool = True

    @property
    def requested(self) -> Mapping[str, str | int]:
        """What requests contain."""
        return {**self.keys, **self.values}

    @property
    def parent(self) -> str:
        """What the rows of its children have of it."""
        return self.copied or next(iter(self.keys.values()))


Outcome = list[Page] | MedallionError
"""The pages of a parent's list, or why it cannot be read."""

WithChildren = Callable[[Sequence[str]], Awaitable[ParentRecord | None]]
"""A parent that has children in raw, and none of those with these first keys."""


class Lists(Protocol):
    """How lists of parents are requested: `size` parents at most by one request."""

    size: int
    reader: EndpointReader

    async def of(self, parents: Sequence[ParentRecord]) -> list[Outcome]:
        """What became of the list of each parent.

        Raises:
            MedallionError: it is not the matter of these parents.
        """
        ...

    async def settle(self, parents: Sequence[ParentRecord], found: list[Outcome]) -> list[Outcome]:
        """The same, once it is known what they prove. Called in the parents' order, and once at a time."""
        ...


class OneByOne:
    """A request per parent."""

    size = 1

    def __init__(self, reader: EndpointReader) -> None:
        self.reader = reader

    async def of(self, parents: Sequence[ParentRecord]) -> list[Outcome]:
        """The list of a parent."""
        (parent,) = parents
        if lacks := [name for name in parent.lacks if self.reader.requests(name)]:
            return [self.reader.no_value(lacks[0])]
        return [await list_or_refusal(self.reader, Start(parent.since), parent.requested)]

    async def settle(self, parents: Sequence[ParentRecord], found: list[Outcome]) -> list[Outcome]:
        """Nothing is open."""
        return found


async def read_children(
    lists: Lists,
    parents: AsyncIterator[ParentRecord],
    width: int,
    with_children: WithChildren | None = None,
) -> AsyncGenerator[Page, None]:
    """Yield the pages of each parent's list, parent by parent; up to `width` requests are sent in parallel.

    The last page of a list has the parent's position: resuming after it repeats no list. Memory: the lists being read.
    A parent deleted meanwhile (404, 410) has no children. One whose list cannot be read (403, 204, 400, a list that
    contradicts itself, …) is one page that says so; the others are read. If that happens to many consecutive parents
    from the first on, a parent known to be one `with_children` is requested: some APIs respond with 404 for an empty
    list.

    Raises:
        SourceError: none of the first parents has a list, so the path is probably wrong.
        As `flows.kinds.api.pages.endpoint.read_pages`; all lists before the one that failed have been yielded.
    """
    outcomes = _Outcomes(lists, with_children)
    under_way: deque[tuple[list[ParentRecord], asyncio.Task[list[Outcome]]]] = deque()
    try:
        more = True
        while more or under_way:
            while more and len(under_way) < width:
                some = await _some(parents, lists.size)
                more = len(some) == lists.size
                if some:
                    under_way.append((some, asyncio.create_task(lists.of(some))))
            if not under_way:
                break
            some, task = under_way[0]
            found = await task
            under_way.popleft()
            for parent, outcome in zip(some, await lists.settle(some, found), strict=True):
                for page in _pages_of(parent, await outcomes.judge(outcome)):
                    yield page
        await outcomes.judge_all()
    finally:
        for _, task in under_way:
            task.cancel()
        await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)


async def _some(parents: AsyncIterator[ParentRecord], size: int) -> list[ParentRecord]:
    some = list[ParentRecord]()
    while len(some) < size and (parent := await anext(parents, None)) is not None:
        some.append(parent)
    return some


def _pages_of(parent: ParentRecord, pages: list[Page]) -> Iterator[Page]:
    """The pages with the parent that they are of; the last one with its position."""
    keys = tuple(parent.keys.values())
    for page in pages[:-1]:
        yield replace(page, place=None, ends=False, parent=parent.parent, parent_keys=keys)
    yield replace(
        pages[-1],
        place=parent.place,
        ends=True,
        parent=parent.parent,
        parent_keys=keys,
        ends_parent=parent.is_last,
    )


class _Outcomes:
    """What became of the parents' lists so far."""

    def __init__(self, lists: Lists, with_children: WithChildren | None) -> None:
        self._lists, self._with_children = lists, with_children
        self._without: int | None = 0  # parents without a list, while there has been none with one
        self._down = self._refused = 0
        self._last: MedallionError | None = None

    async def judge(self, found: Outcome) -> list[Page]:
        """The pages of a list; of one that cannot be read, a page that says so.

        Raises:
            MedallionError: it is not the matter of a single parent.
        """
        if isinstance(found, MedallionError):
            self._refused += 1
            if found is not self._last:  # an answer that is missing may be that of several parents
                self._down = self._down + 1 if isinstance(found, SourceUnavailable) else 0
            self._last = found
            if self._down >= _MOST_DOWN or self._refused > _MOST_REFUSED:
                raise found
            found = [Page([], 0, None, 1, refused=_named(found))]
        elif found[0].skipped:
            return found
        elif not found[0].gone:
            self._without, self._down = None, 0
        if self._without is not None:
            self._without += 1
            if self._without == _MOST_GONE:
                await self._require_a_list()
        return found

    async def judge_all(self) -> None:
        """At the end: refusals of all of a few parents are those of the endpoint.

        Raises:
            MedallionError: no parent has a list, none is known to have had one, and some were refused.
        """
        if (
            self._without
            and self._last is not None
            and (self._with_children is None or await self._with_children(()) is None)
        ):
            raise self._last

    async def _require_a_list(self) -> None:
        known = await self._with_children(()) if self._with_children is not None else None
        (found,) = [None] if known is None else await self._lists.of([known])
        if isinstance(found, MedallionError):
            raise found
        if found is None or found[0].gone:
            raise self._last or self._lists.reader.no_list(self._without or 0)
        self._without = None


async def list_or_refusal(reader: EndpointReader, start: Start, of: Mapping[str, Requested]) -> Outcome:
    """The list, or why it cannot be read.

    Raises:
        MedallionError: the reason concerns all parents: the key is wrong, or the API asks to wait.
    """
    try:
        async with contextlib.aclosing(reader.pages(start, of=of, side_by_side=False)) as pages:
            found = [page async for page in pages]
    except RateLimited:
        raise
    except SourceError as refusal:
        return refusal
    except ConfigurationError as refusal:
        if refusal.__dict__.get("status") != 403:
            raise
        return refusal
    # A list that is skipped in its middle is none: its first pages would mark the rest as deleted.
    return [found[-1]] if found[-1].skipped else found


def _named(refusal: MedallionError) -> str:
    """A refusal without keys of the parent."""
    status = refusal.__dict__.get("status")
    if status is not None:
        return f"HTTP {status}"
    return "no complete response" if isinstance(refusal, SourceUnavailable) else "an invalid list"
