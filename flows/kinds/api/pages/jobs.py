"""Jobs: created, kept, polled, and then read like any list.

create    → a page without records, whose place has the job's id: it is committed before the job is waited for
poll      → until it is done; a run that has waited long enough is rescheduled, and goes on with the same job
failed    → another one is created, with a bound per run
done      → the records at the endpoint's path, in pages whose places have the id
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx

from flows.kinds.api.declared.changes import Since
from flows.kinds.api.declared.endpoint import Endpoint
from flows.kinds.api.declared.headers import Headers
from flows.kinds.api.declared.parts import Requested, filled
from flows.kinds.api.http.answer import Answer
from flows.kinds.api.http.date import http_date
from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.json_walk import Absent, Document
from flows.kinds.api.http.reader import Reader
from flows.kinds.api.http.request import PageRequest, Value, check_place, encoded, encoded_form
from flows.kinds.api.pages.first import headers_of
from flows.kinds.api.pages.kept import Kept
from flows.kinds.api.pages.page import Page, Start
from flows.values.errors import ListUnfinished, MedallionError, RateLimited, SourceError
from flows.values.json_path import parse_path

# Between two polls, however long the job takes.
_LONGEST_PAUSE = 60.0
_GROWTH = 1.3
_GONE = (404, 410)

Facts = dict[str, Any]
"""A job in a place: `id`, `created` (Unix time), `starts`; once it is done `done`, `result`, `total`, `read`."""
ReadList = Callable[[Endpoint, Start], AsyncGenerator[Page, None]]


async def job_pages(
    reader: Reader, endpoint: Endpoint, start: Start, of: Mapping[str, Requested], read: ReadList
) -> AsyncGenerator[Page, None]:
    """The pages of an endpoint whose records a job prepares. `read` reads the list of an endpoint without one.

    `of` are the values of its partition.

    Raises:
        RateLimited: the job is not done yet; the next run goes on waiting.
        SourceError: it has failed as often as may be.
        MedallionError: as `flows.kinds.api.pages.endpoint.read_pages`.
    """
    run = _JobRun(reader, endpoint, of)
    place, kept = start.place, Kept(endpoint.cursor, start.since)
    number: int = 0 if place is None else place["number"]
    facts: Facts = {"starts": 0} if place is None else place["job"]
    while not facts.get("done"):
        if "id" not in facts:
            created = await run.create(start, facts["starts"] + 1)
            number += 1
            if created is None:
                yield Page([], 0, None, number, None, moment=datetime.now(UTC), skipped=True)
                return
            facts, moment = created
            yield Page([], 0, None, number, {"number": number, "job": facts}, moment=moment, keep=True)
        finished = await run.wait(facts, number)
        if finished is None and facts["starts"] >= run.job.starts:
            raise run.failed(facts["starts"])
        facts = {"starts": facts["starts"]} if finished is None else facts | finished
    goes_on = place is not None and "target" in place
    before = 0 if goes_on else number
    async with aclosing(read(run.results(facts), Start(place=place if goes_on else None))) as pages:
        async for page in pages:
            facts = facts | {"read": facts.get("read", 0) + len(page.records)}
            page = replace(page, records=kept.of(page.records))  # noqa: PLW2901
            if page.place is None:
                run.require_total(facts)
                yield replace(page, number=page.number + before)
            else:
                after = page.place | {"number": page.place["number"] + before, "job": facts}
                yield replace(page, number=page.number + before, place=after)


class _JobRun:
    """The requests about an endpoint's job."""

    def __init__(self, reader: Reader, endpoint: Endpoint, of: Mapping[str, Requested]) -> None:
        assert endpoint.job is not None
        self._reader, self._endpoint, self.job, self._of = reader, endpoint, endpoint.job, of
        self._where = reader.place(1)

    async def create(self, start: Start, starts: int) -> tuple[Facts, datetime] | None:
        """Start a job: its facts, and the API's clock before it; None if there is declared to be none."""
        began = datetime.now(UTC)
        try:
            request = self._creating(start)
        except AttemptFailed as failed:
            error: MedallionError | None = failed.error(self._where, 1)
        else:
            error = None
        if error is not None:
            raise error
        answer = await self._reader.fetch(request, 1, shapeless=True)
        if answer.declared == "skip":
            return None
        name = self._value(answer.document, self.job.id)
        if name is None:
            raise SourceError(
                f"the response to {request.line} has no id of a job at {self.job.id!r}",
                where=self._where,
                fix="compare a response with id= of the declared Job",
            )
        moment = http_date(answer.headers.get("date", "")) or began
        return {"id": name, "created": time.time(), "starts": starts}, moment

    async def wait(self, facts: Facts, number: int) -> Facts | None:
        """What is known of the job when it is done; None if it has failed, has expired or takes too long."""
        job, waited, pause = self.job, 0.0, self.job.pause.total_seconds()
        while True:
            answer = await self._poll(facts["id"], number)
            state = None if answer is None else self._value(answer.document, job.state)
            if answer is None or state in job.failed:
                return None
            if state in job.done:
                total = self._value(answer.document, job.total) if job.total else None
                result = self._value(answer.document, job.result) if job.result else None
                if job.result and result is None:
                    raise self._lacks("result", job.result)
                if job.total and (total is None or not total.isdecimal()):
                    raise self._lacks("total", job.total)
                return {"done": True, "result": result, "total": total}
            if state is None:
                raise self._lacks("state", job.state)
            if time.time() - facts["created"] > job.patience.total_seconds():
                return None
            if waited + pause > self._reader.limits.wait_budget_seconds:
                raise self._not_yet(pause)
            self._reader.say(f"{self._where}: the job is not done", pause)
            await asyncio.sleep(pause)
            waited, pause = waited + pause, min(pause * _GROWTH, max(_LONGEST_PAUSE, pause))

    def results(self, facts: Facts) -> Endpoint:
        """The endpoint of the finished job's records."""
        path = self._path(self._endpoint.path, {"job": facts["id"], "result": facts["result"] or ""})
        params = tuple((name, str(filled(value, self._of))) for name, value in self._endpoint.params)
        # What the cursor and the partitions ask for is what the job was created for.
        return replace(
            self._endpoint,
            job=None,
            path=path,
            params=params,
            cursor=None,
            partitions=(),
            answers=(),
            body=None,
            form=False,
        )

    def require_total(self, facts: Facts) -> None:
        """Compare the records that were read with the number that the job has told.

        Raises:
            ListUnfinished: there are fewer.
        """
        total = facts.get("total")
        if total is not None and facts["read"] < int(total[:18]):
            raise ListUnfinished(
                f"the job has {total[:18]} records, and {facts['read']} of them were in its pages",
                where=self._where,
                fix="run again; if it persists, compare a response with total= of the declared Job, and the pagination",
            )

    def failed(self, starts: int) -> SourceError:
        """The error if so many jobs have failed."""
        return SourceError(
            f"{starts} jobs in a row have failed, expired, or were not done within {self.job.within}",
            where=self._where,
            fix="look at the job in the API's own tools; check body= of the declared Job, and within=",
        )

    @property
    def _headers(self) -> Headers:
        return headers_of(self._endpoint, self._of)

    async def _poll(self, name: str, number: int) -> Answer | None:
        url = self._url(self._path(self.job.poll, {"job": name}))
        body = self.job.poll_body
        sent = None if body is None else encoded(_replaced(filled(body, self._of), "{job}", name))
        try:
            return await self._reader.fetch(PageRequest(url, sent, more=self._headers), number, shapeless=True)
        except SourceError as problem:
            if problem.__dict__.get("status") not in _GONE:
                raise
        return None

    def _creating(self, start: Start) -> PageRequest:
        job, cursor = self.job, self._endpoint.cursor
        body: Any = filled(job.body, self._of)
        texts = json.dumps(job.body)
        values: list[tuple[str, Value]] = []
        if isinstance(cursor, Since):
            # Without windows, the upper end is now.
            until = start.until or (cursor.at(datetime.now(UTC)) if cursor.is_time else None)
            ends = (("since", cursor.parameter, start.since or cursor.begin), ("until", cursor.until, until))
            for mark, parameter, value in ends:
                if f"{{{mark}}}" in texts:
                    body = _replaced(body, f"{{{mark}}}", cursor.written(value) if value else job.first)
                elif parameter and value:
                    values.append((parameter, cursor.written(value)))
        sent = encoded_form(body) if self._endpoint.form else encoded(body)
        request = PageRequest(self._url(self._path(job.create, {})), sent, form=self._endpoint.form, more=self._headers)
        if not self._endpoint.form:
            for name, _ in values:
                check_place(job.body, name)
        return request.having(values)

    def _url(self, path: str) -> httpx.URL:
        return httpx.URL(str(self._reader.base).rstrip("/") + path)

    def _path(self, path: str, names: Mapping[str, str]) -> str:
        for name, value in {**self._of, **names}.items():
            path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
        return path

    @staticmethod
    def _value(document: Document, path: str) -> str | None:
        try:
            value = document.token(parse_path(path))
        except Absent:
            return None
        return None if value is None else str(value)

    def _lacks(self, name: str, path: str) -> SourceError:
        return SourceError(
            f"the job's response has no {name} at {path!r}",
            where=self._where,
            fix=f"compare a response with {name}= of the declared Job",
        )

    def _not_yet(self, pause: float) -> RateLimited:
        error = RateLimited(
            "the job is not done, and this run has waited as long as it may",
            where=self._where,
            fix="run again later: the next run goes on waiting for the same job",
            retryable=True,
        )
        error.retry_after = pause
        return error


def _replaced(value: Any, mark: str, text: str) -> Any:
    """A copy of a JSON value with `mark` replaced in its texts, also in those with other braces, as of GraphQL."""
    match value:
        case str():
            return value.replace(mark, text)
        case Mapping():
            return {name: _replaced(inner, mark, text) for name, inner in value.items()}
        case list() | tuple():
            return [_replaced(inner, mark, text) for inner in value]
    return value
