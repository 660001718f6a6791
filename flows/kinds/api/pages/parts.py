"""The lists of an endpoint that is read in parts: one per partition, and per window of time."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from flows.kinds.api.declared.changes import Since
from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.declared.parts import copied_text
from flows.kinds.api.declared.windows import Span
from flows.kinds.api.http.failure import WindowTooLong
from flows.kinds.api.pages.endpoint_reader import EndpointReader
from flows.kinds.api.pages.first import values_of
from flows.kinds.api.pages.page import Page, Start
from flows.kinds.api.pages.place import Place
from flows.values.errors import ListUnfinished, MedallionError

# Pages of a list that are read ahead of those before it. With it, memory holds `width` times as many.
_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Part:
    """One list: the values of its partition, and both ends of its window, as values of the cursor's column.

    `rest`: windows of the partition that are to be read next, since one had more records than a query returns.
    """

    values: tuple[str, ...]
    since: str | None = None
    until: str | None = None
    rest: tuple[tuple[str, str], ...] = ()
    place: Place | None = None


class Parts:
    """The lists of an endpoint in order, each from its partition's own cursor.

    `starts` are the values to start from by partition (`part_name`); a partition that is not among them is read from
    the beginning. All windows end at `until`, the time when the first of them was requested.
    """

    def __init__(self, endpoint: Endpoint, starts: Mapping[str, str], place: Place | None) -> None:
        self.endpoint = endpoint
        self.starts = starts if place is None else place["starts"]
        cursor = endpoint.cursor
        self._cursor = cursor if isinstance(cursor, Since) else None
        now = self._cursor.at(datetime.now(UTC)) if self._cursor is not None and self._cursor.until else None
        self.until: str | None = now if place is None else place["until"]
        self._place = place

    def __iter__(self) -> Iterator[Part]:
        combinations = list(self.endpoint.combinations)
        if self._place is not None:
            part, combination = self._place["part"], tuple(self._place["part"]["values"])
            first = Part(
                combination,
                part["since"],
                part["until"],
                tuple((since, until) for since, until in part["rest"]),
                self._place["list"],
            )
            if not self._place["is_over"]:
                yield first
            yield from self._behind(first)
            combinations = combinations[combinations.index(combination) + 1 :]
        for combination in combinations:
            yield from self._windows(combination, self.starts.get(part_name(combination), self._begin))

    @property
    def _begin(self) -> str | None:
        return (self._cursor.begin or None) if self._cursor is not None else None

    def _behind(self, part: Part) -> Iterator[Part]:
        """What comes after a part in its partition."""
        for place, (since, until) in enumerate(part.rest):
            yield Part(part.values, since, until, part.rest[place + 1 :])
        last = part.rest[-1][1] if part.rest else part.until
        if last is not None and last != self.until:
            yield from self._windows(part.values, last)

    def _windows(self, values: tuple[str, ...], since: str | None) -> Iterator[Part]:
        cursor = self._cursor
        if cursor is None or since is None or self.until is None or not cursor.window:
            yield Part(values, since, self.until)
            return
        span, end = Span.parse(cursor.window, cursor.field), cursor.moment(self.until)
        for edge in span.edges(cursor.moment(since), end, cursor.time_zone):
            yield Part(values, since, cursor.at(edge))
            since = cursor.at(edge)
        yield Part(values, since, self.until)

    def halves(self, part: Part) -> tuple[Part, Part] | None:
        """Both halves of a part's window; None if it cannot be divided."""
        cursor = self._cursor
        if cursor is None or part.since is None or part.until is None:
            return None
        since, until = cursor.moment(part.since), cursor.moment(part.until)
        middle = since + (until - since) / 2
        if cursor.resolution > (until - middle) or cursor.written(cursor.at(middle)) in (
            cursor.written(part.since),
            cursor.written(part.until),
        ):
            return None
        edge = cursor.at(middle)
        rest = ((edge, part.until), *part.rest)
        return Part(part.values, part.since, edge, rest), Part(part.values, edge, part.until, part.rest)

    def place(self, part: Part, inner: Place | None) -> Place:
        """Where to resume: in the part's list, or behind it."""
        return {
            "starts": dict(self.starts),
            "until": self.until,
            "part": {"values": part.values, "since": part.since, "until": part.until, "rest": part.rest},
            "list": inner,
            "is_over": inner is None,
        }


def part_name(combination: tuple[str, ...]) -> str:
    """A partition as its cursor is stored by: its values, `eu` or `eu/orders`."""
    return "/".join(value.replace("%", "%25").replace("/", "%2F") for value in combination)


async def read_parts(reader: EndpointReader, parts: Parts, width: int) -> AsyncGenerator[Page, None]:
    """Yield the pages of all lists, list by list; up to `width` of them are read in parallel.

    Each page has the place after it, also in the middle of a list. Memory: a few pages of each list that is being read.

    Raises:
        ListUnfinished: a window has more records than a query returns, and cannot be divided.
        As `flows.kinds.api.pages.endpoint.read_pages`; all pages before it have been yielded.
    """
    coming = iter(parts)
    running: deque[_Running] = deque()
    try:
        while True:
            while len(running) < max(1, width) and (part := next(coming, None)) is not None:
                running.append(_Running(reader, parts.endpoint, part, alone=width < 2))
            if not running:
                return
            now, refused = running[0], None
            try:
                page = await now.next()
                halves = _halves(parts, now.part, page) if now.is_first else None
            except WindowTooLong as problem:
                halves, refused = parts.halves(now.part), problem
            if halves is None and refused is not None:
                raise ListUnfinished(refused.what, where=refused.where, fix=refused.fix)
            if halves is not None:
                await running.popleft().stop()
                for half in reversed(halves):
                    running.appendleft(_Running(reader, parts.endpoint, half, alone=width < 2))
                continue
            now.go_on()
            is_last = page.is_last
            if is_last:
                await running.popleft().stop()
                if not running and (part := next(coming, None)) is not None:
                    running.append(_Running(reader, parts.endpoint, part, alone=width < 2))
            place = None if is_last and not running else parts.place(now.part, page.place)
            # A page that the list cannot be resumed behind is never the last one.
            copied = copied_text(now.part.values) if now.part.values else None
            yield replace(page, place=place, ends=is_last, parent=copied)
    finally:
        await asyncio.gather(*(one.stop() for one in running))


def _halves(parts: Parts, part: Part, page: Page) -> tuple[Part, Part] | None:
    """Both halves of a window that may have more records than a query returns; None if it has not.

    With as many, too: some APIs count no further than they return.
    """
    cursor = parts.endpoint.cursor
    cap = cursor.cap if isinstance(cursor, Since) else None
    if cap is None or page.total is None or page.total < cap:
        return None
    halves = parts.halves(part)
    if halves is None:
        raise ListUnfinished(
            f"a window that cannot be divided has {page.total} records, and a query returns {cap}",
            where=parts.endpoint.name,
            fix="let the cursor's parameter be more exact with sent= and digits=, or declare partitions",
        )
    return halves


class _Running:
    """A list that is being read, a few pages ahead of the one that is taken next."""

    def __init__(self, reader: EndpointReader, endpoint: Endpoint, part: Part, *, alone: bool) -> None:
        self.part = part
        self.is_first = part.place is None
        self._goes_on, self._asked = asyncio.Event(), asyncio.Event()
        if not (isinstance(endpoint.cursor, Since) and endpoint.cursor.cap) or not self.is_first:
            self._goes_on.set()
        self._pages: asyncio.Queue[Page | BaseException] = asyncio.Queue(_AHEAD)
        start = Start(part.since, part.place, until=part.until)
        values = values_of(endpoint.partitions, part.values)
        self._task = asyncio.create_task(self._read(reader, endpoint, start, values, alone))

    async def _read(
        self, reader: EndpointReader, endpoint: Endpoint, start: Start, values: dict[str, Any], alone: bool
    ) -> None:
        try:
            async with contextlib.aclosing(reader.pages(start, of=values, side_by_side=alone)) as pages:
                async for page in pages:
                    await self._pages.put(page)
                    if page.keep:
                        # It is asked for the next page only when this one has been committed.
                        self._asked.clear()
                        await self._asked.wait()
                    # A window that is too long is divided; only its first page is read.
                    await self._goes_on.wait()
        except MedallionError as problem:
            await self._pages.put(problem)

    def go_on(self) -> None:
        """Read what is behind the first page."""
        self.is_first = False
        self._goes_on.set()

    async def next(self) -> Page:
        """The next page.

        Raises:
            MedallionError: the source failed.
        """
        self._asked.set()
        getting = asyncio.ensure_future(self._pages.get())
        done, _ = await asyncio.wait((getting, self._task), return_when=asyncio.FIRST_COMPLETED)
        if getting not in done and self._pages.empty():
            getting.cancel()
            await self._task  # it has failed
        found = await getting
        if isinstance(found, BaseException):
            raise found
        return found

    async def stop(self) -> None:
        """Leave the list."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
