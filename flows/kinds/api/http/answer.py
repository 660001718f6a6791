"""One response of an API, as pagination sees it."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from flows.kinds.api.http.json_walk import Document


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete page: its records, the API's total, the document, the headers, and the URL of the response.

    `ended`: the API responded that the page does not exist. `listed`: the records before `only=` excluded some.
    `absent`: the declared list is not in the response (`may_be_absent`).
    `declared`: what the answer is declared to mean: it "end"s the list, is to be "ignore"d, or "skip"s the parent.
    """

    records: list[bytes]
    total: int | None
    document: Document
    headers: httpx.Headers
    url: httpx.URL
    received_bytes: int = 0
    ended: bool = False
    unchanged: bool = False
    listed: int = 0
    absent: bool = False
    declared: str = ""
