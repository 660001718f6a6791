"""A page of a list, and where reading begins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flows.kinds.api.pages.place import Place


@dataclass(frozen=True, slots=True)
class Page:
    """One page.

    `records`: each record's JSON as the source sent it, byte for byte.
    `received_bytes`: bytes received, compressed or not.
    `total`: the API's own count of this query, if the endpoint declares its path.
    `number`: 1 for the first page.
    `place`: where to resume after this page; None after the last one, and where reading cannot be resumed.
    `moment`: the API's clock at the response, or ours before the request.
    `etag`: the response's ETag; `token`: its change token, if declared.
    `parent`: what is copied into the rows of the records: the key of their parent, values of partitions.
    `parent_keys`: all keys of the parent; `refused`: why its list could not be read, then there are no records;
    `ends_parent`: whether its list is the last one of the parent.
    `unchanged`: nothing changed since the ETag that was sent (304); then there are no records.
    `gone`: of a child endpoint, the parent does not exist any more; `skipped`: it is declared to have no list.
    `keep`: its place must be durable before the next page is requested.
    `is_proven`: of the last page, whether the API has shown that it is the last one.
    `ignored`: of the last page, how many answers of the list were ignored as declared.
    `last`: of the last page, the place of the last one with records, from which a later look begins; None if that was
    the first page of the list.
    `ends`: whether its list ends, if its place does not say so: one of several lists, or of parents.
    """

    records: list[bytes]
    received_bytes: int
    total: int | None
    number: int
    place: Place | None = None
    moment: datetime | None = None
    etag: str | None = None
    token: str | None = None
    parent: str | None = None
    unchanged: bool = False
    gone: bool = False
    skipped: bool = False
    is_proven: bool = False
    ignored: int = 0
    parent_keys: tuple[str, ...] = ()
    ends_parent: bool = True
    refused: str | None = None
    keep: bool = False
    ends: bool | None = None
    last: Place | None = None

    @property
    def is_last(self) -> bool:
        """Whether it is the last page of its list, which may be one of several."""
        return self.place is None if self.ends is None else self.ends


@dataclass(frozen=True, slots=True)
class Start:
    """Where the reading of a list begins; `Start()` reads all of it.

    `since`: the lower end, as a value of the cursor's column, or a change token; `until`: the upper end.
    `place`: behind an earlier page, see `Page.place`.
    `etag`: only if the list differs from the one that had this ETag.
    """

    since: str | None = None
    place: Place | None = None
    etag: str | None = None
    until: str | None = None
