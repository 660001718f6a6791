"""Questions to a Prefect server, as patient as those of Prefect's own client: SQLite is busy now and then."""

import os
import time
from functools import cache
from typing import Any

import httpx


def authorized() -> httpx.BasicAuth:
    """What the Prefect server of the run asks its clients for."""
    user, _, password = os.environ["PREFECT_API_AUTH_STRING"].partition(":")
    return httpx.BasicAuth(user, password)


@cache
def _client() -> httpx.Client:
    """One for all questions: each new one reads certificates, and opens a connection.

    Servers close what was idle for five seconds. A connection is not taken up again that late.
    """
    return httpx.Client(timeout=60, limits=httpx.Limits(keepalive_expiry=2))


def asked(method: str, url: str, *, seconds: float = 60, **given: Any) -> httpx.Response:
    """The server's answer, once it is another than 503, or the time is over."""
    until = time.monotonic() + seconds
    while True:
        answer = _client().request(method, url, auth=authorized(), **given)
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > until:
            return answer
        time.sleep(0.2)
