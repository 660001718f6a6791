"""The Prefect API by plain HTTP: Prefect's own client takes a second to import, and 100 MB."""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from flows.access.addresses import embedded_stack
from flows.values.errors import ConfigurationError, MedallionError

_SECONDS = 8.0
#: As many as Prefect gives at once.
PAGE = 200


class PrefectDown(Exception):
    """The server does not answer as a Prefect API of ours. `what` and `fix` contain no secrets.

    `silent`: it accepts connections, and does not respond in time.
    """

    def __init__(self, what: str, fix: str, *, silent: bool = False) -> None:
        super().__init__(what)
        self.what, self.fix, self.silent = what, fix, silent


@dataclass(slots=True)
class PrefectApi:
    """A server and what it is told of who asks. Its repr never shows credentials."""

    url: str = field(repr=False)
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: The embedded server's, whose address may be another after a restart: read again for each connection.
    locate: Callable[[], tuple[str, Mapping[str, str]]] | None = field(default=None, repr=False)
    #: When the server last answered, by its own clock.
    answered_at: datetime | None = field(default=None, init=False)
    _client: httpx.AsyncClient | None = field(default=None, init=False, repr=False)

    @property
    def embedded(self) -> bool:
        """Whether it is the server of the embedded stack."""
        return self.locate is not None

    async def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer to a question as JSON: by POST if it has a body, else by GET.

        Raises:
            PrefectDown: no answer, or not that of a Prefect API of ours.
        """
        client = self._opened()
        try:
            answer = await client.request("GET" if body is None else "POST", f"{self.url.rstrip('/')}{path}", json=body)
        except httpx.HTTPError as problem:
            hangs = isinstance(problem, httpx.TimeoutException) and not isinstance(problem, httpx.ConnectTimeout)
            what = "accepts connections, but does not respond" if hangs else "does not respond"
            fix = "start it (`medallion up` starts the embedded one), or correct PREFECT_API_URL; its log says more"
            raise PrefectDown(f"{what} ({type(problem).__name__})", fix, silent=hangs) from None
        except httpx.InvalidURL:
            raise PrefectDown("its address is no URL", "correct PREFECT_API_URL") from None
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            fix = "set PREFECT_API_AUTH_STRING to the server's, or PREFECT_API_KEY for Prefect Cloud"
            raise PrefectDown(f"refuses the credentials ({answer.status_code})", fix)
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise PrefectDown(
                f"responds with {answer.status_code}", "read the server's log; its database may be away or full"
            )
        try:
            if not answer.is_success:
                raise ValueError
            found = answer.json()
        except ValueError:
            fix = "correct PREFECT_API_URL: it ends in /api for a server of one's own"
            raise PrefectDown(f"is not a Prefect API ({answer.status_code} from {path})", fix) from None
        if "date" in answer.headers:
            self.answered_at = parsedate_to_datetime(answer.headers["date"]).astimezone(UTC)
        return found

    async def ask_all(self, path: str, body: Mapping[str, Any], most: int = 1000) -> list[dict[str, Any]]:
        """All that is found, page by page, up to `most`."""
        found: list[dict[str, Any]] = []
        while len(found) < most:
            page = await self.ask(path, {**body, "limit": PAGE, "offset": len(found)})
            if not isinstance(page, list):
                raise PrefectDown(f"is not a Prefect API (no list from {path})", "correct PREFECT_API_URL")
            found += page
            if len(page) < PAGE:
                break
        return found

    async def close(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            if self.locate is not None:
                try:
                    self.url, self.credentials = self.locate()
                except MedallionError as problem:
                    raise PrefectDown(problem.what, problem.fix) from None
            # One client for the life of the process: each reads all authorities, in 40 ms.
            self._client = httpx.AsyncClient(
                timeout=_SECONDS,
                headers=dict(self.credentials),
                verify=_trusted()
                if self.url.startswith("https:")
                else False,  # without TLS, authorities need not be read
                trust_env=urlsplit(self.url).hostname not in ("127.0.0.1", "localhost", "::1"),
            )
        return self._client


def find_api(prove: Callable[[Mapping[str, Any]], None] | None = None) -> PrefectApi | None:
    """The configured server: PREFECT_API_URL with its credentials, else the embedded one; None without either.

    `prove` is given the embedded server's facts before credentials are sent to it; it raises MedallionError.

    Raises:
        ConfigurationError: the embedded stack's file cannot be read.
    """
    if url := os.environ.get("PREFECT_API_URL"):
        return PrefectApi(
            url, _credentials(os.environ.get("PREFECT_API_AUTH_STRING"), os.environ.get("PREFECT_API_KEY"))
        )
    if embedded_stack() is None:
        return None

    def locate() -> tuple[str, Mapping[str, str]]:
        stack = embedded_stack()
        if stack is None:
            raise ConfigurationError("is not running", where="Prefect server", fix="run `medallion up`")
        server: Mapping[str, Any] = stack["prefect"]
        if prove is not None:
            prove(server)
        return str(server["api_url"]), _credentials(server.get("auth_string"), None)

    return PrefectApi("", locate=locate)


def _credentials(auth_string: str | None, key: str | None) -> dict[str, str]:
    if key:
        return {"Authorization": f"Bearer {key}"}
    if auth_string:
        return {"Authorization": f"Basic {base64.b64encode(auth_string.encode()).decode()}"}
    return {}


def _trusted() -> ssl.SSLContext:
    file = os.environ.get("PREFECT_API_SSL_CERT_FILE") or os.environ.get("SSL_CERT_FILE")
    return ssl.create_default_context(cafile=file or None)
