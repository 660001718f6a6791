"""The position in a list as JSON, from which a later process resumes. It never contains credentials."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx

from flows.kinds.api.declared.auth import Auth
from flows.kinds.api.http.auth import query_parameter
from flows.kinds.api.http.link_header import require_origin
from flows.kinds.api.http.request import PageRequest, without_parameter
from flows.kinds.api.pages.walk import Walk

Place = dict[str, Any]
"""`target` (path and query), `body`, `number` (of the previous page), and `walk`: the state of the pagination."""


def without_key(request: PageRequest | None, auth: Auth) -> PageRequest | None:
    """The request without credentials, for logs and storage: some APIs put the received key into their links."""
    parameter = query_parameter(auth)
    if request is None or parameter is None:
        return request
    return replace(request, url=without_parameter(request.url, parameter))


def place_after(following: PageRequest | None, number: int, walk: Walk) -> Place | None:
    """Where to resume after page `number`; None at the end."""
    if following is None:
        return None
    return {
        "target": following.url.raw_path.decode("ascii"),
        "body": None if following.body is None else following.body.decode(),
        "number": number,
        "walk": walk.facts(),
    }


def request_at(place: Place, first: PageRequest, base: httpx.URL) -> PageRequest:
    """The request of a place.

    Raises:
        AttemptFailed: it leads to another origin, because the API has moved.
    """
    url = first.url.copy_with(raw_path=place["target"].encode("ascii"))
    require_origin(url, base, "the position to resume from")
    return replace(first, url=url, body=None if place["body"] is None else place["body"].encode(), etag=None)
