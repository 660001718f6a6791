"""Questions to a Prefect server, as patient as those of Prefect's own client: SQLite is busy now and then."""

import os
import time
from typing import Any

import httpx


def authorized() -> httpx.BasicAuth:
    """What the Prefect server of the run asks its clients for."""
    user, _, password = os.environ["PREFECT_API_AUTH_STRING"].partition(":")
    return httpx.BasicAuth(user, password)


def asked(method: str, url: str, *, seconds: float = 60, **given: Any) -> httpx.Response:
    """The server's answer, once it is another than 503, or the time is over."""
    until = time.monotonic() + seconds
    while True:
        answer = httpx.request(method, url, timeout=60, auth=authorized(), **given)
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > until:
            return answer
        time.sleep(0.2)
