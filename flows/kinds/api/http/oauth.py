"""Tokens that are requested once, renewed before they expire, and shared within a process."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from weakref import WeakKeyDictionary

import httpx

from flows.kinds.api.declared.auth import Auth
from flows.kinds.api.declared.sent import Bearer
from flows.kinds.api.declared.tokens import Login
from flows.kinds.api.http.assertions import Assertion
from flows.kinds.api.http.body import read_body
from flows.kinds.api.http.failure import AttemptFailed, refused, too_slow, unreachable
from flows.kinds.api.http.grants import Grant, Sent, Token, whose
from flows.kinds.api.http.limits import HttpLimits
from flows.kinds.api.http.signer import Outgoing, place
from flows.values.errors import ConfigurationError

_MOST_BYTES = 1 << 20
# An error's name (RFC 6749, section 5.2, and what servers add): never a value.
_ERROR = re.compile(rb'"error"\s*:\s*"([a-z_]{1,40})"')

_tokens: dict[str, Token] = {}
_tokens_lock = threading.Lock()
# A lock of asyncio belongs to one loop; reads in other threads have loops of their own.
_flights: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Lock]] = WeakKeyDictionary()


class TokenSigner:
    """Signs with the current token."""

    def __init__(self, flow: Grant, transport: httpx.AsyncBaseTransport, limits: HttpLimits) -> None:
        auth = flow.api.auth
        self._flow = flow
        self._limits = limits
        self._sent_as: Auth = getattr(auth, "sent_as", Bearer())
        self._expires = auth.expires if isinstance(auth, Login) else (httpx.codes.UNAUTHORIZED,)
        self._client = httpx.AsyncClient(
            transport=transport,
            headers={"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "medallion"},
            timeout=httpx.Timeout(limits.read_seconds, connect=limits.connect_seconds),
            follow_redirects=False,
        )

    async def sign(self, request: Outgoing) -> None:
        """Add the token to the request, a new one if the last is about to expire.

        Raises:
            AttemptFailed: the token server does not issue one.
        """
        token = await self._token(lambda known: time.monotonic() < known.renew_at)
        request.used = token.value
        place(self._sent_as, request, token.value)

    async def again(self, request: Outgoing, response: httpx.Response) -> bool:
        """Request a new token, unless another read has while this request was in flight."""
        if response.status_code not in self._expires:
            return False
        await self._token(lambda known: known.value != request.used, request.used)
        return True

    async def aclose(self) -> None:
        """Close the connections to the token server."""
        await self._client.aclose()

    async def _token(self, good: Callable[[Token], bool], refused: str = "") -> Token:
        flights = _flights.setdefault(asyncio.get_running_loop(), {})
        async with flights.setdefault(self._flow.identity, asyncio.Lock()):
            with _tokens_lock:
                known = _tokens.get(self._flow.identity)
            if known is not None and good(known):
                return known
            granted = await self._grant(refused)
            with _tokens_lock:
                _tokens[self._flow.identity] = granted
            return granted

    async def _grant(self, refused: str) -> Token:
        """A new token; `refused` is the one that the API does not accept any more."""
        content, headers = await self._ask(self._flow.request())
        return self._flow.granted(content, headers).as_token()

    async def _ask(self, sent: Sent) -> tuple[bytes, httpx.Headers]:
        """The token server's response.

        Raises:
            AttemptFailed: it sends none, or an error, whose name is `code` of the failure.
        """
        headers, form = sent
        url, line = self._flow.url, f"POST {self._flow.url.raw_path.partition(b'?')[0].decode('ascii')} (the token)"
        failure: AttemptFailed
        try:
            async with (
                asyncio.timeout(self._limits.request_seconds),
                self._client.stream("POST", url, content=form, headers=headers) as response,
            ):
                if response.status_code in (httpx.codes.OK, httpx.codes.CREATED, httpx.codes.NO_CONTENT):
                    return await self._content(response), response.headers
                failure = refused(response, line, self._flow.api)
                if response.status_code in (400, 401, 403):
                    failure = await self._no_token(response, line)
        except TimeoutError:
            failure = too_slow(line, self._limits.request_seconds)
        except httpx.HTTPError as error:
            failure = unreachable(error, line, self._flow.api)
        raise failure

    async def _content(self, response: httpx.Response) -> bytes:
        auth = self._flow.api.auth
        if isinstance(auth, Login) and not auth.token:
            return b""  # the token is in the head, and the body may be anything
        return (await read_body(response, _MOST_BYTES)).content

    async def _no_token(self, response: httpx.Response, line: str) -> AttemptFailed:
        try:
            named = _ERROR.search((await read_body(response, _MOST_BYTES)).content)
        except (AttemptFailed, httpx.HTTPError):
            named = None
        code = named[1].decode() if named else ""
        api, status = self._flow.api, response.status_code
        failure = AttemptFailed(
            f"{status} from {line}: no token for this client{f' ({code})' if code else ''}",
            f"check {whose(api)}, and the declared {type(api.auth).__name__}: scope, params, and how it is sent",
            kind=ConfigurationError,
            status=status,
        )
        failure.code = code
        return failure


class AssertionSigner:
    """Signs with an assertion itself, for APIs without a token server."""

    def __init__(self, flow: Assertion) -> None:
        self._flow = flow
        self._known: Token | None = None

    async def sign(self, request: Outgoing) -> None:
        """Add the assertion, a new one after half of its lifetime."""
        if self._known is None or time.monotonic() >= self._known.renew_at:
            lasts = self._flow.auth.lasts.total_seconds()
            self._known = Token(self._flow.signed(), time.monotonic() + lasts / 2)
        request.used = self._known.value
        place(self._flow.auth.sent_as, request, self._known.value)

    async def again(self, request: Outgoing, response: httpx.Response) -> bool:
        """With a new one, if the API refuses one that it may have seen before."""
        fresh = self._known is not None and self._known.value == request.used
        if response.status_code != httpx.codes.UNAUTHORIZED or not fresh:
            return False
        self._known = None
        return True

    async def aclose(self) -> None:
        """Nothing to close."""
