"""One response of an API, as pagination reads it."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from flows.kinds.api.http.json_walk import Document


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole page: its records, the API's total, the document and the headers, and the address that answered.

    `ended`: the API said in its own way that there is no such page.
    """

    records: list[bytes]
    total: int | None
    document: Document
    headers: httpx.Headers
    url: httpx.URL
    received_bytes: int = 0
    ended: bool = False
    unchanged: bool = False
