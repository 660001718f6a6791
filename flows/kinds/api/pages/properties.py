"""Pages whose records come in parts, some fields by each request. A record is complete, or its page is an error."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import httpx
import msgspec

from flows.kinds.api.declared.changes import Since
from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.declared.headers import Headers
from flows.kinds.api.declared.properties import NamesAt, Properties
from flows.kinds.api.http.answer import Answer
from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.json_walk import Absent, Document, kind_of
from flows.kinds.api.http.parts_of_record import Torn, joined
from flows.kinds.api.http.reader import Reader
from flows.kinds.api.http.request import PageRequest
from flows.kinds.api.pages.signs import more_in
from flows.values.errors import DeclarationError, ListUnfinished
from flows.values.json_path import parse_path, plain_steps

_TEXT = msgspec.json.Decoder(str)
Key = tuple[bytes | None, ...]


class PropertiesReader:
    """Fetches pages part by part, up to `width` requests in parallel, and joins the parts of each record by its key."""

    def __init__(self, reader: Reader, endpoint: Endpoint, properties: Properties, width: int) -> None:
        self._reader, self._properties = reader, properties
        self._at = plain_steps(properties.at) if properties.at else ()
        own = {field.name for field in endpoint.copied}
        self._keys = [plain_steps(field.at) for field in endpoint.key_fields if field.name not in own]
        paths = [*self._keys]
        if isinstance(endpoint.cursor, Since):
            paths.append(plain_steps(endpoint.cursor.field))
        self._always = [path[len(self._at)] for path in paths if path[:-1] == self._at]
        self._parts: list[tuple[str, ...]] = []
        self._names_lock = asyncio.Lock()
        self._at_once = asyncio.Semaphore(max(1, width))

    async def fetch(self, request: PageRequest, number: int) -> Answer:
        """The page with whole records. If the parts differ, they are requested again.

        Raises:
            ListUnfinished: they always do.
            MedallionError: as `Reader.fetch`.
        """
        where, attempts = self._reader.place(number), 0
        while True:
            answers = await self._answers(request, number)
            try:
                return self._joined(answers)
            except AttemptFailed as failed:
                failure = failed
            attempts += 1
            if attempts >= self._reader.limits.max_attempts:
                raise failure.error(where, attempts)
            await self._reader.pause(failure, attempts, where)

    async def _answers(self, request: PageRequest, number: int) -> list[Answer]:
        first, *others = await self._names(request.more)
        answer = await self._part(request, number, first)
        # Nothing to complete: no such page, nothing has changed, or what is declared.
        if not answer.records:
            return [answer]
        tasks = [asyncio.create_task(self._part(request, number, part)) for part in others]
        try:
            return [answer, *[await task for task in tasks]]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _part(self, request: PageRequest, number: int, names: tuple[str, ...]) -> Answer:
        is_json = request.body is not None and not request.form and not request.text
        value = list[object](names) if is_json else self._properties.separator.join(names)
        async with self._at_once:
            return await self._reader.fetch(request.having([(self._properties.parameter, value)]), number)

    async def _names(self, headers: Headers) -> list[tuple[str, ...]]:
        """The names of each part: those declared, or those that the API lists."""
        async with self._names_lock:
            if not self._parts:
                names = self._properties.names
                found = names if isinstance(names, tuple) else await self._listed(names, headers)
                self._parts = self._properties.parts(self._always, found)
        return self._parts

    async def _listed(self, names: NamesAt, headers: Headers) -> tuple[str, ...]:
        url = httpx.URL(str(self._reader.base).rstrip("/") + names.path)
        answer = await self._reader.fetch(PageRequest(url, more=headers), 1, shapeless=True)
        try:
            values = answer.document.each(parse_path(names.at, many=True))
        except Absent:
            values = []
        problem = ""
        if not values or any(kind_of(value) != "text" for value in values):
            problem = f"there are no names at {names.at!r} of GET {names.path}"
        elif (where := more_in(answer, None, 1)) is not None:
            problem = f"the response of GET {names.path} says at {where} that there are more names"
        if problem:
            raise DeclarationError(
                problem, where=self._reader.place(1), fix="compare a response with names= of its properties"
            )
        return tuple(_TEXT.decode(value) for value in values)

    def _joined(self, answers: Sequence[Answer]) -> Answer:
        first = answers[0]
        if len(answers) == 1:
            return first
        keys = [[self._key(record) for record in answer.records] for answer in answers]
        torn: str | None = None
        if all(found == keys[0] for found in keys):
            parts: list[Sequence[bytes]] = list(zip(*(answer.records for answer in answers), strict=True))
        else:
            parts = self._by_key(answers, keys)
        try:
            records = [joined(part, self._at, self._properties.may_differ) for part in parts]
        except Torn as field:
            torn = str(field)
        if torn is not None:
            raise AttemptFailed(
                f"the parts of a record differ in {torn!r}, so that it has changed between them",
                "run again: the next run goes on from there; if the field is different in each response, declare it in "
                "may_differ= of the properties",
                kind=ListUnfinished,
            )
        received = sum(answer.received_bytes for answer in answers)
        return replace(first, records=records, received_bytes=received)

    def _by_key(self, answers: Sequence[Answer], keys: Sequence[Sequence[Key]]) -> list[Sequence[bytes]]:
        """The parts of each record, of responses in different orders."""
        found = [dict(zip(names, answer.records, strict=True)) for names, answer in zip(keys, answers, strict=True)]
        same = all(one.keys() == found[0].keys() and len(one) == len(keys[0]) for one in found)
        if not same or any(None in key for key in found[0]) or any(len(one) != len(keys[0]) for one in keys):
            raise AttemptFailed(
                "a record is in one part of a page, and not in another one",
                "run again: the next run goes on from there; if it persists, the key may not be in each part: declare "
                "it in always= of the properties",
                kind=ListUnfinished,
            )
        return [[one[key] for one in found] for key in keys[0]]

    def _key(self, record: bytes) -> Key:
        return tuple(_value(record, path) for path in self._keys)


def _value(record: bytes, path: Sequence[str]) -> bytes | None:
    try:
        return bytes(Document(record).at(path))
    except (Absent, msgspec.DecodeError, UnicodeDecodeError):
        return None
