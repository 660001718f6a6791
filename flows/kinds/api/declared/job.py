"""Jobs: an API prepares the records first."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from flows.declare.duration import parse_duration
from flows.values.errors import DeclarationError
from flows.values.json_path import parse_path

#: Names in braces that are not those of partitions.
OWN_NAMES = frozenset({"job", "result", "since", "until"})
_PLACE = re.compile(r"\{(job|result)\}")


@dataclass(frozen=True, slots=True)
class Job:
    """A job that is created, polled until it is done, and whose records are then read from the endpoint's path.

        Endpoint(
            "accounts",
            path="/jobs/{job}/results",
            job=Job(
                "/jobs",
                body={"query": "select Id from Account where Changed >= {since}"},
                first="1970-01-01T00:00:00Z",
                poll="/jobs/{job}", state="state", done=("JobComplete",), failed=("Failed", "Aborted"),
            ),
        )

    `create` is requested by POST with `body`, and answers with the job's `id` (a path). `poll` is requested every
    `every` until the text at `state` is one of `done`, or of `failed`; by POST, if it has a `poll_body`. `{job}` is the
    id, and `{result}` the value at the path `result` of the finished job, in the endpoint's path too. With `download`,
    the response to the endpoint's path has the URL of the document there, as of an object store (`Api.stores`).
    `total` is the path of the number of records in the finished job, which is compared.

    With a cursor, its parameter is a field of `body`; or `{since}` in a text of it, and `first` what is written instead
    in a first load. The id is kept before it is waited for, so a later run goes on with the same job. One that fails,
    has expired, or is not done `within` that time is started again, `starts` times per run in total.
    """

    create: str
    poll: str
    done: tuple[str, ...]
    failed: tuple[str, ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict, hash=False)
    poll_body: Mapping[str, Any] | None = field(default=None, hash=False)
    id: str = "id"
    state: str = "status"
    result: str = ""
    download: str = ""
    total: str = ""
    first: str = ""
    every: str = "5 s"
    within: str = "6 h"
    starts: int = 3

    def __post_init__(self) -> None:
        for path in (self.id, self.state, self.result, self.download, self.total):
            parse_path(path)
        if not self.done or set(self.done) & set(self.failed):
            raise DeclarationError(
                "a job is done in some state, and has failed in others",
                where="job",
                fix='write done=("COMPLETED",) and failed=("FAILED", "CANCELLED")',
            )
        if "{job}" not in self.poll + json.dumps(self.poll_body):
            raise DeclarationError(
                "the request that polls a job does not name it", where="job", fix='write poll="/jobs/{job}"'
            )
        if not all(path.startswith("/") for path in (self.create, self.poll)):
            raise DeclarationError("a path of the job is not absolute", where="job", fix="start it with /")
        if "{since}" in json.dumps(self.body) and not self.first:
            raise DeclarationError(
                "in a first load, nothing stands in place of {since}",
                where="job",
                fix='write first="1970-01-01T00:00:00Z"',
            )
        if self.starts < 1 or self.pause <= timedelta(0) or self.patience <= self.pause:
            raise DeclarationError(
                "a job is started at least once, and polled within its time",
                where="job",
                fix='write starts=3, every="5 s", within="6 h"',
            )

    @property
    def pause(self) -> timedelta:
        """Between two polls, at first."""
        return parse_duration(self.every, "job")

    @property
    def patience(self) -> timedelta:
        """The age at which a job that is not done is given up."""
        return parse_duration(self.within, "job")

    @property
    def templates(self) -> tuple[Any, ...]:
        """What may have names in braces: of a partition's values, and its own."""
        return self.create, self.poll, self.body, self.poll_body

    def names_in(self, path: str) -> frozenset[str]:
        """`job` and `result`, if they are in a path."""
        return frozenset(_PLACE.findall(path))
