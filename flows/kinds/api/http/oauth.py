"""OAuth2 client credentials: tokens are requested once, renewed before they expire, and shared within a process."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote_plus, urlencode
from weakref import WeakKeyDictionary

import httpx
import msgspec

from flows.kinds.api.declared.api import Api
from flows.kinds.api.declared.auth import OAuth2
from flows.kinds.api.http.body import Body, read_body
from flows.kinds.api.http.failure import AttemptFailed, key_variable, refused, too_slow, unreachable, user_variable
from flows.kinds.api.http.limits import HttpLimits
from flows.values.errors import ConfigurationError

# A token this close to its expiry may expire in transit: clocks differ, and a response takes time.
_AHEAD_SECONDS = 30.0
_AHEAD_SHARE = 0.1
# Default for servers that do not send the lifetime of a token.
_UNSAID_SECONDS = 300.0
_MOST_BYTES = 1 << 20
# Characters allowed in a header.
_VISIBLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, and when to renew it, by our monotonic clock."""

    value: str = field(repr=False)
    renew_at: float


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """The client and the token endpoint."""

    api: Api
    auth: OAuth2
    url: httpx.URL
    user: str = field(repr=False)
    secret: str = field(repr=False)

    @property
    def identity(self) -> str:
        """The cache key of the token; another secret is another token."""
        parts = (str(self.url), self.user, self.secret, self.auth.scope, repr(self.auth.params))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def request(self) -> tuple[dict[str, str], bytes]:
        """Headers and body of the token request (RFC 6749, sections 2.3.1 and 4.4.2)."""
        form = [("grant_type", "client_credentials"), *self.auth.params]
        if self.auth.scope:
            form.append(("scope", self.auth.scope))
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if self.auth.client == "basic":
            pair = f"{quote_plus(self.user)}:{quote_plus(self.secret)}".encode()
            headers["Authorization"] = f"Basic {b64encode(pair).decode('ascii')}"
        else:
            form += [("client_id", self.user), ("client_secret", self.secret)]
        return headers, urlencode(form).encode()


class _Granted(msgspec.Struct):
    """The token response (RFC 6749, section 5.1)."""

    access_token: str
    token_type: str = "bearer"  # noqa: S105  # the kind, not the token
    expires_in: float | str | None = None


_tokens: dict[str, Token] = {}
_tokens_lock = threading.Lock()
# A lock of asyncio belongs to one loop; reads in other threads have loops of their own.
_flights: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Lock]] = WeakKeyDictionary()


class TokenSigner:
    """Signs with the current token."""

    def __init__(self, flow: ClientCredentials, transport: httpx.AsyncBaseTransport, limits: HttpLimits) -> None:
        self._flow = flow
        self._limits = limits
        self._client = httpx.AsyncClient(
            transport=transport,
            headers={"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "medallion"},
            timeout=httpx.Timeout(limits.read_seconds, connect=limits.connect_seconds),
            follow_redirects=False,
        )

    async def sign(self, url: httpx.URL, headers: httpx.Headers) -> httpx.URL:
        """Add the token to the request, a new one if the last is about to expire.

        Raises:
            AttemptFailed: the token server does not issue one.
        """
        token = await self._token(lambda known: time.monotonic() < known.renew_at)
        headers["Authorization"] = f"Bearer {token.value}"
        return url

    async def renew(self, headers: httpx.Headers) -> bool:
        """Request a new token, unless another read has while this request was in flight."""
        refused_token = headers.get("Authorization", "").removeprefix("Bearer ")
        await self._token(lambda known: known.value != refused_token)
        return True

    async def aclose(self) -> None:
        """Close the connections to the token server."""
        await self._client.aclose()

    async def _token(self, good: Callable[[Token], bool]) -> Token:
        flights = _flights.setdefault(asyncio.get_running_loop(), {})
        async with flights.setdefault(self._flow.identity, asyncio.Lock()):
            with _tokens_lock:
                known = _tokens.get(self._flow.identity)
            if known is not None and good(known):
                return known
            granted = await self._ask()
            with _tokens_lock:
                _tokens[self._flow.identity] = granted
            return granted

    async def _ask(self) -> Token:
        headers, form = self._flow.request()
        url, line = self._flow.url, f"POST {self._flow.url.raw_path.partition(b'?')[0].decode('ascii')} (the token)"
        failure: AttemptFailed
        try:
            async with (
                asyncio.timeout(self._limits.request_seconds),
                self._client.stream("POST", url, content=form, headers=headers) as response,
            ):
                if response.status_code == httpx.codes.OK:
                    return _read_token(await read_body(response, _MOST_BYTES), self._flow.api)
                failure = refused(response, line, self._flow.api)
                if response.status_code in (400, 401, 403):
                    failure = AttemptFailed(
                        f"{response.status_code} from {line}: no token for this client",
                        f"check {user_variable(self._flow.api)} and {key_variable(self._flow.api)} (or the block "
                        f"source-{self._flow.api.connection}), and scope and client= of the declared OAuth2",
                        kind=ConfigurationError,
                    )
        except TimeoutError:
            failure = too_slow(line, self._limits.request_seconds)
        except httpx.HTTPError as error:
            failure = unreachable(error, line, self._flow.api)
        raise failure


def _read_token(body: Body, api: Api) -> Token:
    try:
        granted = msgspec.json.decode(body.content, type=_Granted)
        lasts = _UNSAID_SECONDS if granted.expires_in is None else float(granted.expires_in)
    except (msgspec.MsgspecError, ValueError):
        granted, lasts = _Granted(""), 0.0
    if not _VISIBLE.fullmatch(granted.access_token) or granted.token_type.lower() != "bearer":
        raise AttemptFailed(
            "the token server's response is not a bearer token",
            f"check token_url of the declared OAuth2 in flows/sources/{api.name}.py",
            kind=ConfigurationError,
        )
    ahead = min(lasts / 2, max(_AHEAD_SECONDS, lasts * _AHEAD_SHARE))
    return Token(granted.access_token, time.monotonic() + lasts - ahead)


def token_address(api: Api, auth: OAuth2, base: httpx.URL) -> httpx.URL:
    """The URL of the token endpoint: a path is relative to the base URL's host.

    Raises:
        ConfigurationError: it is not a URL.
    """
    try:
        url: httpx.URL | None = base.join(auth.token_url)
    except (httpx.InvalidURL, ValueError):
        url = None
    if url is not None and url.host and url.scheme in ("http", "https"):
        return url
    raise ConfigurationError(
        "token_url is not a URL",
        where=f"source {api.name}",
        fix=f"correct token_url of the declared OAuth2 in flows/sources/{api.name}.py",
    )
