"""Object stores that an API refers to: presigned URLs, which are read without any credential of ours.

Such a URL is itself a secret. The HTTP client, with its log lines and exceptions, sees it without its query; the
transport sends the real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from flows.kinds.api.http.connections import is_here, transport_for
from flows.kinds.api.http.failure import AttemptFailed
from flows.kinds.api.http.json_walk import Absent, Document
from flows.kinds.api.http.link_header import origin
from flows.values.json_path import parse_path

_EXTENSION = "medallion_store"
_USER_AGENT = "medallion"


def is_store(url: httpx.URL, stores: Sequence[str]) -> bool:
    """Whether a URL is of a declared store: by https, with its host listed, or below `*.host`.

        ("reports.s3.eu-central-1.amazonaws.com", "*.blob.core.windows.net")

    A server on this machine, with its port, may be a store without TLS.
    """
    if url.scheme != "https" and not is_here(url):
        return False
    names = {url.host, f"{url.host}:{url.port}"}
    below = tuple(store.removeprefix("*") for store in stores if store.startswith("*."))
    return bool(names & set(stores)) or bool(below and url.host.endswith(below))


def masked(url: httpx.URL) -> tuple[httpx.URL, dict[str, Any]]:
    """What the client may see of a store's URL, and the extension that carries it."""
    return url.copy_with(query=None, fragment=None), {_EXTENSION: url}


def url_in(document: Document, path: str) -> str:
    """The URL that a response has there; empty if it has none."""
    try:
        return str(document.token(parse_path(path)) or "")
    except Absent:
        return ""


def store_url(url: str, relative_to: httpx.URL, stores: Sequence[str], what: str) -> httpx.URL:
    """A URL that an API has sent, if it may be followed.

    Raises:
        AttemptFailed: it is not one of a declared store.
    """
    try:
        found: httpx.URL | None = relative_to.join(url) if url else None
    except (httpx.InvalidURL, ValueError, TypeError):
        found = None
    if found is not None and (is_store(found, stores) or origin(found) == origin(relative_to)):
        return found
    host = f"another host, {found.host}," if found is not None and found.host else "no URL"
    raise AttemptFailed(
        f"{what} leads to {host} and credentials and requests stay with the API",
        'if it is an object store of the API, declare it: Api(…, stores=("*.s3.amazonaws.com",))',
    )


class StoreTransport(httpx.AsyncBaseTransport):
    """Sends requests to stores, without credentials and without headers of the API."""

    def __init__(self, stores: Sequence[str]) -> None:
        self._stores = tuple(stores)
        self._by_origin: dict[object, httpx.AsyncHTTPTransport] = {}

    @staticmethod
    def takes(request: httpx.Request) -> bool:
        """Whether the request is for a store."""
        return _EXTENSION in request.extensions

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it.

        Raises:
            httpx.UnsupportedProtocol: its host is not declared.
        """
        url: httpx.URL = request.extensions[_EXTENSION]
        if request.method != "GET" or not is_store(url, self._stores):
            raise httpx.UnsupportedProtocol("a request to another origin is never sent")
        inner = self._by_origin.setdefault(origin(url), transport_for(url))
        kept = {name: value for name, value in request.extensions.items() if name != _EXTENSION}
        headers = {"Host": url.netloc.decode("ascii"), "Accept": "*/*", "User-Agent": _USER_AGENT}
        return await inner.handle_async_request(httpx.Request("GET", url, headers=headers, extensions=kept))

    async def aclose(self) -> None:
        """Close the connections."""
        for transport in self._by_origin.values():
            await transport.aclose()
