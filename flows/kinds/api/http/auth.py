"""Credentials, and the only place that adds them to a request."""

import re
import ssl
from base64 import b64encode
from functools import cache
from typing import Protocol
from urllib.parse import quote
from urllib.request import getproxies, proxy_bypass

import httpx

from flows.kinds.api.declared.api import Api
from flows.kinds.api.declared.auth import ApiKeyHeader, ApiKeyQuery, Auth, Basic, Bearer, NoAuth, OAuth2
from flows.kinds.api.http.failure import key_variable, url_variable, user_variable
from flows.kinds.api.http.limits import HttpLimits
from flows.kinds.api.http.link_header import origin
from flows.kinds.api.http.oauth import ClientCredentials, TokenSigner, token_address
from flows.kinds.api.http.request import without_parameter
from flows.values.connection import ApiConnection
from flows.values.errors import ConfigurationError, DeclarationError

# Characters allowed in a header: for others, the HTTP library raises an error that quotes the value.
_VISIBLE = re.compile(r"[\x21-\x7e]+")
# As many connections as declared parallel requests; idle ones are kept for the next page.
_CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class Signer(Protocol):
    """Adds a credential to an outgoing request."""

    async def sign(self, url: httpx.URL, headers: httpx.Headers) -> httpx.URL:
        """Sign the headers in place, and return the URL to request."""
        ...

    async def renew(self, headers: httpx.Headers) -> bool:
        """The API refused the credential in `headers`: whether a new one is available."""
        ...

    async def aclose(self) -> None:
        """Close the resources of signing."""
        ...


class KeySigner:
    """Signs with a credential that does not change."""

    def __init__(self, auth: Auth, key: str, user: str = "") -> None:
        self._auth, self._key, self._user = auth, key, user

    async def sign(self, url: httpx.URL, headers: httpx.Headers) -> httpx.URL:
        """Add the key where the API expects it."""
        match self._auth:
            case ApiKeyHeader(header=header):
                headers[header] = self._key
            case ApiKeyQuery(parameter=parameter):
                return _with_query(url, parameter, self._key)
            case Basic():
                pair = b64encode(f"{self._user}:{self._key}".encode()).decode("ascii")
                headers["Authorization"] = f"Basic {pair}"
            case Bearer(scheme=scheme):
                headers["Authorization"] = f"{scheme} {self._key}"
            case _:
                pass
        return url

    async def renew(self, headers: httpx.Headers) -> bool:
        """There is no new one."""
        return False

    async def aclose(self) -> None:
        """Nothing to close."""


class CredentialTransport(httpx.AsyncBaseTransport):
    """Signs outgoing requests, below the client.

    The client, its log lines ("HTTP Request: GET https://…") and its exceptions only see the unsigned request, so none
    of them can leak a key. A request to another origin is not sent at all: whatever a link, a redirect or a later
    change requests, credentials are not sent there.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, base: httpx.URL, signer: Signer) -> None:
        self._inner = inner
        self._origin = origin(base)
        self._signer = signer

    def __repr__(self) -> str:
        return f"CredentialTransport({type(self._signer).__name__})"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a signed copy of `request`; again with a renewed credential if the API responds with 401.

        Raises:
            httpx.UnsupportedProtocol: the request is for another origin.
        """
        if origin(request.url) != self._origin:
            raise httpx.UnsupportedProtocol("a request to another origin is never sent")
        headers = request.headers.copy()
        response = await self._send(request, headers)
        if response.status_code == httpx.codes.UNAUTHORIZED and await self._signer.renew(headers):
            await response.aclose()
            response = await self._send(request, request.headers.copy())
        return response

    async def _send(self, request: httpx.Request, headers: httpx.Headers) -> httpx.Response:
        url = await self._signer.sign(request.url, headers)
        signed = httpx.Request(
            request.method, url, headers=headers, stream=request.stream, extensions=request.extensions
        )
        return await self._inner.handle_async_request(signed)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()
        await self._signer.aclose()


def base_url_of(api: Api, connection: ApiConnection) -> httpx.URL:
    """The API's base URL, validated.

    Raises:
        ConfigurationError: it is not an absolute http(s) URL, or has a user, a query or a fragment.
    """
    try:
        base: httpx.URL | None = httpx.URL(connection.base_url.strip())
    except (httpx.InvalidURL, ValueError):
        base = None
    if base is None or base.scheme not in ("http", "https") or not base.host:
        problem = "the base URL is not a URL such as https://api.example.com"
    elif base.userinfo or base.query or base.fragment:
        problem = "the base URL contains more than scheme, host, port and path (a user, a query, a fragment)"
    else:
        return base
    raise ConfigurationError(
        problem,
        where=f"source {api.name}",
        fix=f"correct {url_variable(api)} (or the block source-{api.connection}); a key belongs in {key_variable(api)}",
    )


def open_client(api: Api, connection: ApiConnection, limits: HttpLimits) -> httpx.AsyncClient:
    """A client for one read of this API: keep-alive, HTTP/2 if TLS offers it, signed requests, no redirects.

    Raises:
        ConfigurationError: the declared key is missing or cannot be sent, the base URL is invalid, or the
            environment has an invalid proxy.
        DeclarationError: the declared header is not a valid header name.
    """
    base = base_url_of(api, connection)
    return httpx.AsyncClient(
        transport=CredentialTransport(transport_for(base), base, _signer(api, connection, base, limits)),
        headers={
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": "medallion",
            **dict(api.headers),
        },
        timeout=httpx.Timeout(limits.read_seconds, connect=limits.connect_seconds),
        follow_redirects=False,
    )


@cache
def _trusted() -> ssl.SSLContext:
    # Loading CA certificates takes 18 ms and blocks the event loop: once per process, not once per read.
    return httpx.create_ssl_context()


def _signer(api: Api, connection: ApiConnection, base: httpx.URL, limits: HttpLimits) -> Signer:
    key = _key_of(api, connection)
    if isinstance(api.auth, OAuth2):
        token_url = token_address(api, api.auth, base)
        flow = ClientCredentials(api, api.auth, token_url, _user_of(api, connection), key)
        return TokenSigner(flow, transport_for(token_url), limits)
    user = _user_of(api, connection) if isinstance(api.auth, Basic) else ""
    return KeySigner(api.auth, key, user)


def _key_of(api: Api, connection: ApiConnection) -> str:
    if isinstance(api.auth, NoAuth):
        return ""
    where, source = f"source {api.name}", f"{key_variable(api)} (or the block source-{api.connection})"
    if isinstance(api.auth, ApiKeyHeader) and not _TOKEN.fullmatch(api.auth.header):
        raise DeclarationError(
            f"{api.auth.header!r} is not a valid header name",
            where=where,
            fix=f"correct ApiKeyHeader in flows/sources/{api.name}.py",
        )
    # An empty password is valid; an empty key was forgotten.
    if connection.key is None or (not connection.key and not isinstance(api.auth, Basic)):
        raise ConfigurationError("the API needs a key, and none is configured", where=where, fix=f"set {source}")
    # A password is sent encoded, so it may contain anything.
    if isinstance(api.auth, ApiKeyHeader | ApiKeyQuery | Bearer) and not _VISIBLE.fullmatch(connection.key):
        raise ConfigurationError(
            "the key contains a space, a line break or a character outside ASCII",
            where=where,
            fix=f"set {source} again, without characters that copy and paste may have added",
        )
    return connection.key


def _user_of(api: Api, connection: ApiConnection) -> str:
    what = "a client id" if isinstance(api.auth, OAuth2) else "a user"
    if not connection.user:
        problem = f"the API needs {what}, and none is configured"
    elif isinstance(api.auth, Basic) and ":" in connection.user:
        problem = "the user contains a colon, which separates user and password (RFC 7617)"
    else:
        return connection.user
    raise ConfigurationError(
        problem,
        where=f"source {api.name}",
        fix=f"set {user_variable(api)} (or the user of the block source-{api.connection})",
    )


def _with_query(url: httpx.URL, parameter: str, value: str) -> httpx.URL:
    # An existing copy of the key is replaced, not duplicated.
    kept = without_parameter(url, parameter).query.decode("ascii")
    signed = f"{quote(parameter, safe='')}={quote(value, safe='')}"
    return url.copy_with(query=(f"{kept}&{signed}" if kept else signed).encode("ascii"))


def transport_for(base: httpx.URL) -> httpx.AsyncHTTPTransport:
    """Connections to a URL, through the proxy that the environment configures for it.

    Raises:
        ConfigurationError: that proxy is invalid.
    """
    # With a custom transport httpx ignores HTTPS_PROXY and NO_PROXY, which company networks need.
    proxy = _proxy_for(base)
    try:
        return httpx.AsyncHTTPTransport(verify=_trusted(), proxy=proxy, http2=True, limits=_CONNECTIONS)
    except (ValueError, ImportError, httpx.InvalidURL):
        pass  # their text quotes the URL, which may contain a password
    raise ConfigurationError(
        f"the proxy configured for {base.scheme} URLs is invalid",
        where=base.host,
        fix=f"correct {base.scheme.upper()}_PROXY (an http or https URL), or add the host to NO_PROXY",
    )


def _proxy_for(base: httpx.URL) -> str | None:
    # No proxy can reach this machine's loopback, whatever NO_PROXY says.
    if base.host in ("localhost", "::1") or base.host.startswith("127."):
        return None
    if proxy_bypass(f"{base.host}:{base.port}" if base.port else base.host):
        return None
    proxies = getproxies()
    proxy = proxies.get(base.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy
