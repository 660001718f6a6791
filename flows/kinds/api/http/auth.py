"""Credentials, and the only place that adds them to a request."""

import re
import ssl

import httpx

from flows.kinds.api.declared.api import Api
from flows.kinds.api.declared.auth import Auth
from flows.kinds.api.declared.sent import ApiKeyBody, ApiKeyHeader, Basic, NoAuth
from flows.kinds.api.declared.tokens import JwtBearer, Login, OAuth2, RefreshToken, SeveralKeys, Signed
from flows.kinds.api.http.assertions import Assertion
from flows.kinds.api.http.connections import certificate_of, transport_for
from flows.kinds.api.http.failure import key_variable, token_variable, url_variable, user_variable
from flows.kinds.api.http.grants import Client, ClientCredentials, Grant, Refreshed, Session
from flows.kinds.api.http.limits import HttpLimits
from flows.kinds.api.http.link_header import origin
from flows.kinds.api.http.oauth import AssertionSigner, TokenSigner
from flows.kinds.api.http.rotating import RotatingSigner
from flows.kinds.api.http.service_account import service_account
from flows.kinds.api.http.several import SeveralKeysSigner
from flows.kinds.api.http.signer import HookSigner, KeySigner, Outgoing, Signer
from flows.kinds.api.http.stores import StoreTransport
from flows.values.connection import ApiConnection
from flows.values.errors import ConfigurationError, DeclarationError

# Characters allowed in a header: for others, the HTTP library raises an error that quotes the value.
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# Credentials that are not sent as they are, so that they may contain anything.
_ENCODED = (NoAuth, ApiKeyBody, Basic, OAuth2, RefreshToken, JwtBearer, Login, Signed, SeveralKeys)
_MOST_TRIES = 20


class CredentialTransport(httpx.AsyncBaseTransport):
    """Signs outgoing requests, below the client.

    The client, its log lines ("HTTP Request: GET https://…") and its exceptions only see the unsigned request, so none
    of them can leak a key. A request to another origin is not sent at all: whatever a link, a redirect or a later
    change requests, credentials are not sent there. Declared stores get requests without credentials.
    """

    def __init__(
        self, inner: httpx.AsyncBaseTransport, base: httpx.URL, signer: Signer, stores: tuple[str, ...] = ()
    ) -> None:
        self._inner = inner
        self._origin = origin(base)
        self._signer = signer
        self._stores = StoreTransport(stores)

    def __repr__(self) -> str:
        return f"CredentialTransport({type(self._signer).__name__})"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a signed copy of `request`; again with another credential if the API responds that it needs one.

        Raises:
            httpx.UnsupportedProtocol: the request is for another origin.
        """
        if StoreTransport.takes(request):
            return await self._stores.handle_async_request(request)
        if origin(request.url) != self._origin:
            raise httpx.UnsupportedProtocol("a request to another origin is never sent")
        signed, response = await self._send(request)
        first = True
        for _ in range(_MOST_TRIES):
            # A renewed token that is refused, too, is a matter of configuration.
            renews = not isinstance(self._signer, SeveralKeysSigner)
            if (renews and not first) or not await self._signer.again(signed, response):
                break
            first = False
            await response.aclose()
            signed, response = await self._send(request, signed.refused)
        return response

    async def _send(self, request: httpx.Request, refused: tuple[int, ...] = ()) -> tuple[Outgoing, httpx.Response]:
        body = await request.aread()
        out = Outgoing(request.method, request.url, request.headers.copy(), body, refused=refused)
        await self._signer.sign(out)
        if out.body is not body:
            out.headers.pop("content-length", None)
        signed = httpx.Request(
            request.method, out.url, headers=out.headers, content=out.body or None, extensions=request.extensions
        )
        return out, await self._inner.handle_async_request(signed)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()
        await self._signer.aclose()
        await self._stores.aclose()


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
        ConfigurationError: the declared key or certificate is missing or cannot be sent, the base URL is invalid, or
            the environment has an invalid proxy.
        DeclarationError: the declared header is not a valid header name, or there is no such hook.
    """
    base = base_url_of(api, connection)
    proof = certificate_of(api, connection)
    signer = _signer(api, connection, base, limits, proof)
    return httpx.AsyncClient(
        transport=CredentialTransport(transport_for(base, proof), base, signer, api.stores),
        headers={
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": "medallion",
            **dict(api.headers),
        },
        timeout=httpx.Timeout(limits.read_seconds, connect=limits.connect_seconds),
        follow_redirects=False,
    )


def _signer(
    api: Api, connection: ApiConnection, base: httpx.URL, limits: HttpLimits, proof: ssl.SSLContext | None
) -> Signer:
    auth, key = api.auth, _key_of(api, connection)
    match auth:
        case JwtBearer():
            url = address_of(api, auth.token_url, base) if auth.token_url else base
            assertion = _assertion(api, auth, url, connection, key)
            if not auth.token_url:
                return AssertionSigner(assertion)
            return TokenSigner(assertion, transport_for(url, proof), limits)
        case OAuth2() | Login() | RefreshToken():
            url = address_of(api, auth.path if isinstance(auth, Login) else auth.token_url, base)
            client = Client(_user_of(api, connection), key)
            if isinstance(auth, RefreshToken):
                return _rotating(
                    api, connection, Refreshed(api, auth, url, client, connection.token or ""), limits, proof
                )
            flow: Grant = (
                Session(api, auth, url, client)
                if isinstance(auth, Login)
                else ClientCredentials(api, auth, url, client)
            )
            return TokenSigner(flow, transport_for(url, proof), limits)
        case Signed():
            return HookSigner(auth, key, connection.user or "", api.name)
        case SeveralKeys():
            return SeveralKeysSigner(auth, key.split())
    user = _user_of(api, connection) if isinstance(auth, Basic) else ""
    return KeySigner(auth, key, user)


def _rotating(
    api: Api, connection: ApiConnection, flow: Refreshed, limits: HttpLimits, proof: ssl.SSLContext | None
) -> Signer:
    if not flow.refresh_token or connection.tokens is None:
        raise ConfigurationError(
            "the API needs a refresh token, and none is configured",
            where=f"source {api.name}",
            fix=f"authorise the app, and set {token_variable(api)} (or the token of the block "
            f"source-{api.connection}) to the refresh token",
        )
    return RotatingSigner(flow, connection.tokens, transport_for(flow.url, proof), limits)


def _assertion(api: Api, auth: JwtBearer, url: httpx.URL, connection: ApiConnection, key: str) -> Assertion:
    account = service_account(api, key)
    if account is not None:
        return Assertion(api, auth, url, Client(connection.user or account.email, account.private_key), account.key_id)
    # Variables with line breaks are written with \n by many tools.
    pem = key.replace("\\n", "\n") if "-----BEGIN" in key else key
    return Assertion(api, auth, url, Client(_user_of(api, connection), pem))


def _key_of(api: Api, connection: ApiConnection) -> str:
    auth = api.auth
    if isinstance(auth, NoAuth):
        return ""
    where, source = f"source {api.name}", f"{key_variable(api)} (or the block source-{api.connection})"
    if isinstance(auth, ApiKeyHeader) and not _TOKEN.fullmatch(auth.header):
        raise DeclarationError(
            f"{auth.header!r} is not a valid header name",
            where=where,
            fix=f"correct ApiKeyHeader in flows/sources/{api.name}.py",
        )
    may_be_empty = isinstance(auth, Basic) or (isinstance(auth, RefreshToken) and auth.client == "none")
    # An empty password is valid; an empty key was forgotten.
    missing = connection.key is None and not isinstance(auth, RefreshToken)
    if missing or (not (connection.key or "").strip() and not may_be_empty):
        raise ConfigurationError("the API needs a key, and none is configured", where=where, fix=f"set {source}")
    key = connection.key or ""
    sent = key.split() if isinstance(auth, SeveralKeys) else [key]
    if not isinstance(auth, _ENCODED) or isinstance(auth, SeveralKeys):
        _require_visible(sent, where, source)
    return key


def _require_visible(keys: list[str], where: str, source: str) -> None:
    if not all(_VISIBLE.fullmatch(key) for key in keys):
        raise ConfigurationError(
            "the key contains a space, a line break or a character outside ASCII",
            where=where,
            fix=f"set {source} again, without characters that copy and paste may have added",
        )


def _user_of(api: Api, connection: ApiConnection) -> str:
    what = {Basic: "a user", Login: "a user", JwtBearer: "an issuer"}.get(type(api.auth), "a client id")
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


def address_of(api: Api, path: str, base: httpx.URL) -> httpx.URL:
    """The URL of the token endpoint: a path is relative to the base URL's host.

    Raises:
        ConfigurationError: it is not a URL.
    """
    try:
        url: httpx.URL | None = base.join(path)
    except (httpx.InvalidURL, ValueError):
        url = None
    if url is not None and url.host and url.scheme in ("http", "https"):
        return url
    raise ConfigurationError(
        "token_url is not a URL",
        where=f"source {api.name}",
        fix=f"correct token_url of the declared {type(api.auth).__name__} in flows/sources/{api.name}.py",
    )


def query_parameter(auth: Auth) -> str | None:
    """The parameter of the query that has the credential; None if it is sent elsewhere."""
    return getattr(getattr(auth, "sent_as", auth), "parameter", None)
