"""Credentials, and the one place where they meet a request."""

import re
import ssl
from functools import cache
from urllib.parse import quote
from urllib.request import getproxies, proxy_bypass

import httpx

from flows.extract.http_failure import key_variable, url_variable
from flows.extract.http_limits import HttpLimits
from flows.extract.pagination import origin
from flows.spec.api import Api, ApiKeyHeader, ApiKeyQuery, NoAuth
from flows.spec.connection import ApiConnection
from flows.spec.errors import ConfigurationError, DeclarationError

# What a header may carry: anything else is refused by the HTTP library with an error that quotes the value.
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class CredentialTransport(httpx.AsyncBaseTransport):
    """Signs a request on its way out, below the client.

    The client, its log lines ("HTTP Request: GET https://…") and its exceptions only ever see the unsigned request,
    so none of them can repeat a key. A request to another origin is not sent at all: whatever a link, a redirect or
    a later change above asks for, credentials cannot follow.
    """

    def __init__(
        self, inner: httpx.AsyncBaseTransport, base: httpx.URL, auth: ApiKeyHeader | ApiKeyQuery | NoAuth, key: str
    ) -> None:
        self._inner = inner
        self._origin = origin(base)
        self._auth = auth
        self._key = key

    def __repr__(self) -> str:
        return f"CredentialTransport({self._auth!r})"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the signed twin of `request`.

        Raises:
            httpx.UnsupportedProtocol: the request is for another origin.
        """
        if origin(request.url) != self._origin:
            raise httpx.UnsupportedProtocol("a request to another origin is never sent")
        url, headers = request.url, request.headers.copy()
        if isinstance(self._auth, ApiKeyHeader):
            headers[self._auth.header] = self._key
        elif isinstance(self._auth, ApiKeyQuery):
            url = _with_query(url, self._auth.parameter, self._key)
        signed = httpx.Request(
            request.method, url, headers=headers, stream=request.stream, extensions=request.extensions
        )
        return await self._inner.handle_async_request(signed)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


def base_url_of(api: Api, connection: ApiConnection) -> httpx.URL:
    """The API's base address, checked.

    Raises:
        ConfigurationError: not an absolute http(s) address, or one that holds a user, a query or a fragment.
    """
    try:
        base: httpx.URL | None = httpx.URL(connection.base_url.strip())
    except (httpx.InvalidURL, ValueError):
        base = None
    if base is None or base.scheme not in ("http", "https") or not base.host:
        problem = "the base URL is not an address such as https://api.example.com"
    elif base.userinfo or base.query or base.fragment:
        problem = "the base URL holds more than scheme, host, port and path (a user, a query, a fragment)"
    else:
        return base
    raise ConfigurationError(
        problem,
        where=f"source {api.name}",
        next_move=f"correct {url_variable(api)} (or the block source-{api.connection}); "
        f"a key belongs in {key_variable(api)}",
    )


def open_client(api: Api, connection: ApiConnection, limits: HttpLimits) -> httpx.AsyncClient:
    """A client for one read of this API: keep-alive HTTP/1.1, signed requests, no redirects of its own.

    Raises:
        ConfigurationError: the declared key is missing or cannot be sent, the base URL is no address, or the
            environment names a proxy that cannot be used.
        DeclarationError: the declared header is no header's name.
    """
    base = base_url_of(api, connection)
    key = _key_of(api, connection)
    return httpx.AsyncClient(
        transport=CredentialTransport(_transport(base), base, api.auth, key),
        headers={"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "medallion"},
        timeout=httpx.Timeout(limits.read_seconds, connect=limits.connect_seconds),
        follow_redirects=False,
    )


@cache
def _trusted() -> ssl.SSLContext:
    # Reading the authorities takes 18 ms and holds up the event loop: once a process, not once a read.
    return httpx.create_ssl_context()


def _key_of(api: Api, connection: ApiConnection) -> str:
    if isinstance(api.auth, NoAuth):
        return ""
    where, source = f"source {api.name}", f"{key_variable(api)} (or the block source-{api.connection})"
    if isinstance(api.auth, ApiKeyHeader) and not _TOKEN.fullmatch(api.auth.header):
        raise DeclarationError(
            f"{api.auth.header!r} cannot be a header's name",
            where=where,
            next_move=f"correct ApiKeyHeader in flows/sources/{api.name}.py",
        )
    if not connection.key:
        raise ConfigurationError("the API wants a key and there is none", where=where, next_move=f"set {source}")
    if not _VISIBLE.fullmatch(connection.key):
        raise ConfigurationError(
            "the key holds a space, a line break or a character outside ASCII",
            where=where,
            next_move=f"set {source} again, without what a copy and paste may have added",
        )
    return connection.key


def _with_query(url: httpx.URL, parameter: str, value: str) -> httpx.URL:
    # The rest of the query stays byte for byte: a page cursor may be signed. A copy of the key that the API put
    # into its own next link is replaced, not doubled.
    name = quote(parameter, safe="")
    kept = [pair for pair in url.query.decode("ascii").split("&") if pair and pair.partition("=")[0] != name]
    return url.copy_with(query="&".join([*kept, f"{name}={quote(value, safe='')}"]).encode("ascii"))


def _transport(base: httpx.URL) -> httpx.AsyncHTTPTransport:
    # With a transport of one's own httpx no longer looks at HTTPS_PROXY and NO_PROXY; a company's network needs it.
    proxy = _proxy_for(base)
    try:
        return httpx.AsyncHTTPTransport(verify=_trusted(), proxy=proxy)
    except (ValueError, ImportError, httpx.InvalidURL):
        pass  # their text quotes the address, which may hold a password
    raise ConfigurationError(
        f"the proxy set for {base.scheme} addresses cannot be used",
        where=base.host,
        next_move=f"correct {base.scheme.upper()}_PROXY (an http or https address), or add the host to NO_PROXY",
    )


def _proxy_for(base: httpx.URL) -> str | None:
    # No proxy can reach this machine's own loopback, whether or not NO_PROXY says so.
    if base.host in ("localhost", "::1") or base.host.startswith("127."):
        return None
    if proxy_bypass(f"{base.host}:{base.port}" if base.port else base.host):
        return None
    proxies = getproxies()
    proxy = proxies.get(base.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy
