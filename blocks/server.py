"""The configured Prefect server: a check before it is used, and its failures as our errors.

Without a server Prefect starts a temporary one per process, which takes half a minute and loses all data: that is
disabled in pyproject.toml.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from importlib.metadata import version

import httpx
from prefect.client.base import ServerType
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, get_current_settings, temporary_settings

from flows.values.errors import ConfigurationError

# A server on a busy machine responds within 2 s; a minute for each of six attempts would look like a hang.
_PATIENCE_SECONDS = 15.0
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404


def require_server(*, patience: float = _PATIENCE_SECONDS) -> str:
    """The URL of the configured Prefect API, after it has responded and accepted the credentials. One request.

    Raises:
        ConfigurationError: none is configured, it does not respond, is not a Prefect API, or refuses the credentials.
    """
    url = get_current_settings().api.url
    if not url:
        raise no_server()
    try:
        # With Prefect's own retries, a server that is down would be retried for minutes.
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True, httpx_settings={"timeout": patience}) as client,
        ):
            if client.server_type == ServerType.CLOUD:  # it reports no version, and accepts every client
                client.request("POST", "/flows/count", json={})
            else:
                _refuse_another_version(client.request("GET", "/admin/version").json(), url)
    except Exception as problem:
        if (error := explain_server(problem)) is None:
            raise
        raise error from None
    return url


def explain_server(problem: BaseException) -> ConfigurationError | None:
    """The Prefect server's failure as our error; None if the exception is about something else."""
    if isinstance(problem, ConfigurationError):
        return problem
    url = get_current_settings().api.url
    links = list(_chain(problem))
    if not url:
        return no_server() if any("No Prefect API URL provided" in str(link) for link in links) else None
    # The root cause is more specific: a refused certificate becomes a ConnectError, and that an API error.
    for link in reversed(links):
        if isinstance(link, httpx.HTTPError | httpx.InvalidURL) and _is_of_server(link, url):
            return _explained(link, links, url)
    if any(isinstance(link, ValueError) and type(link).__name__ == "JSONDecodeError" for link in links) and any(
        link.__traceback__ is not None and _passed_client(link) for link in links
    ):
        return _no_prefect(url)
    return None


def shown(url: str) -> str:
    """The URL without user and password."""
    try:
        return str(httpx.URL(url).copy_with(username=None, password=None)).rstrip("/")
    except httpx.InvalidURL:
        return "PREFECT_API_URL"


def no_server() -> ConfigurationError:
    """The error if no server is configured."""
    error = ConfigurationError(
        "no Prefect server is configured",
        where="PREFECT_API_URL",
        fix="run `medallion up` for the embedded server, set PREFECT_API_URL, or run `prefect cloud login`",
    )
    error.exit_code = 2
    return error


def refused_by_server(status: int, url: str) -> ConfigurationError:
    """The error for a response that refuses the credentials, or is not from a Prefect API."""
    if status in {_UNAUTHORIZED, _FORBIDDEN}:
        cloud = get_current_settings().cloud.api_url
        fix = (
            "set PREFECT_API_KEY to a key of that workspace, or run `prefect cloud login`"
            if cloud and url.startswith(cloud)
            else "set PREFECT_API_AUTH_STRING to the server's, or PREFECT_API_KEY for Prefect Cloud"
        )
        return ConfigurationError(f"the Prefect server refuses the credentials ({status})", where=shown(url), fix=fix)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return ConfigurationError(
            f"the Prefect server responds with {status}",
            where=shown(url),
            fix="read the server's log; if it has just started, or is busy, run again in a minute",
            retryable=True,
        )
    return _no_prefect(url, f" (it responds with {status})")


def _explained(problem: Exception, links: list[BaseException], url: str) -> ConfigurationError:
    if isinstance(problem, httpx.HTTPStatusError):
        return refused_by_server(problem.response.status_code, url)
    if isinstance(problem, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return ConfigurationError(
            "PREFECT_API_URL is not a URL",
            where=shown(url),
            fix="write it with its scheme and path, such as http://127.0.0.1:4200/api",
        )
    if _is_tls(problem, links):
        return ConfigurationError(
            "no encrypted connection to the Prefect server: its certificate is not accepted, or it speaks no TLS",
            where=shown(url),
            fix="name its CA in PREFECT_API_SSL_CERT_FILE, or correct http and https in PREFECT_API_URL",
        )
    if isinstance(problem, httpx.RemoteProtocolError | httpx.DecodingError | httpx.TooManyRedirects):
        return _no_prefect(url)
    hangs = isinstance(problem, httpx.TimeoutException) and not isinstance(problem, httpx.ConnectTimeout)
    what = "accepts connections, but does not respond" if hangs else "does not respond"
    return ConfigurationError(
        f"the Prefect server {what}",
        where=shown(url),
        fix="check that it is up (`medallion up` starts the embedded server), or correct PREFECT_API_URL; completed "
        "steps are not repeated",
        retryable=True,
    )


def _no_prefect(url: str, detail: str = "") -> ConfigurationError:
    return ConfigurationError(
        f"the server is not a Prefect API{detail}",
        where=shown(url),
        fix="correct PREFECT_API_URL: it ends in /api for a self-hosted server, and in "
        "/accounts/<id>/workspaces/<id> for Prefect Cloud",
    )


def _refuse_another_version(server: object, url: str) -> None:
    ours = version("prefect")
    if not isinstance(server, str):
        raise _no_prefect(url)
    if server.partition(".")[0] != ours.partition(".")[0]:
        raise ConfigurationError(
            f"the Prefect server has version {server}, and this client {ours}",
            where=shown(url),
            fix="upgrade the server to the same major version, or configure another in PREFECT_API_URL",
        )


def _chain(problem: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = problem
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        if isinstance(link, BaseExceptionGroup):
            yield from link.exceptions
        link = link.__cause__ or link.__context__


def _is_of_server(problem: Exception, url: str) -> bool:
    """Whether the request went to the server: sources use the same library."""
    if isinstance(problem, PrefectHTTPStatusError):
        return True
    try:
        asked = problem.request.url  # type: ignore[attr-defined]  # raises if there is none
    except (AttributeError, RuntimeError):
        return isinstance(problem, httpx.InvalidURL | httpx.UnsupportedProtocol)
    ours = httpx.URL(url)
    return (asked.host, asked.port) == (ours.host, ours.port)


def _is_tls(problem: Exception, links: list[BaseException]) -> bool:
    return "SSL" in str(problem) or any(isinstance(link, ssl.SSLError) for link in links)


def _passed_client(problem: BaseException) -> bool:
    """Whether it was raised while Prefect's client read a response."""
    frame = problem.__traceback__
    while frame is not None:
        if str(frame.tb_frame.f_globals.get("__name__", "")).startswith(("prefect.client", "blocks.server")):
            return True
        frame = frame.tb_next
    return False
