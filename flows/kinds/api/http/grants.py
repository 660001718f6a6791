"""What is sent to a token server, and what its response means."""

from __future__ import annotations

import hashlib
import json
import re
import time
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote_plus, urlencode

import httpx
import msgspec

from flows.kinds.api.declared.api import Api
from flows.kinds.api.declared.tokens import JwtBearer, Login, OAuth2, RefreshToken
from flows.kinds.api.http.failure import AttemptFailed, key_variable, user_variable
from flows.kinds.api.http.json_walk import Absent, Document
from flows.values.errors import ConfigurationError
from flows.values.json_path import parse_path

Sent = tuple[dict[str, str], bytes]
FORM = "application/x-www-form-urlencoded"
# A token this close to its expiry may expire in transit: clocks differ, and a response takes time.
_AHEAD_SECONDS = 30.0
_AHEAD_SHARE = 0.1
# Default for servers that do not send the lifetime of a token.
_UNSAID_SECONDS = 300.0
# Characters allowed in a header.
_VISIBLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, and when to renew it, by our monotonic clock."""

    value: str = field(repr=False)
    renew_at: float


@dataclass(frozen=True, slots=True)
class Granted:
    """A token server's response: the token, for how many seconds it is good, and a refresh token if it sends one."""

    token: str = field(repr=False)
    seconds: float
    refresh_token: str = field(default="", repr=False)

    def as_token(self) -> Token:
        """To be renewed ahead of its end."""
        return Token(self.token, time.monotonic() + self.seconds)


class Grant(Protocol):
    """A way to get a token. `where` names it in messages."""

    @property
    def api(self) -> Api:
        """The API that the token is for."""
        ...

    @property
    def url(self) -> httpx.URL:
        """The token server's URL."""
        ...

    @property
    def identity(self) -> str:
        """The cache key of the token; another secret is another token."""
        ...

    def request(self) -> Sent:
        """Headers and body of the request."""
        ...

    def granted(self, content: bytes, headers: httpx.Headers) -> Granted:
        """The token of a response.

        Raises:
            AttemptFailed: it has none.
        """
        ...


@dataclass(frozen=True, slots=True)
class Client:
    """An app that is known to the API: its id and secret."""

    user: str = field(repr=False)
    secret: str = field(repr=False)


def identity_of(*parts: str) -> str:
    """A fingerprint of a credential and what it is used for."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def grant_form(auth: OAuth2 | RefreshToken | JwtBearer, kind: str, *own: tuple[str, str]) -> list[tuple[str, str]]:
    """The form of a token request: the grant's kind, what is its `own`, and what is declared."""
    scope = [("scope", auth.scope)] if auth.scope else []
    return [("grant_type", kind), *own, *auth.params, *scope]


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """The client and the token endpoint (RFC 6749, sections 2.3.1 and 4.4.2)."""

    api: Api
    auth: OAuth2
    url: httpx.URL
    client: Client

    @property
    def identity(self) -> str:
        """By the client, its secret and what is requested."""
        return identity_of(str(self.url), self.client.user, self.client.secret, repr(self.auth))

    def request(self) -> Sent:
        """The client proves itself."""
        return as_client(self.client, self.auth.client, grant_form(self.auth, "client_credentials"))

    def granted(self, content: bytes, headers: httpx.Headers) -> Granted:
        """A bearer token."""
        return bearer_in(content, self.api)


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The refresh token that is valid now (RFC 6749, section 6). Servers may replace it with every use."""

    api: Api
    auth: RefreshToken
    url: httpx.URL
    client: Client
    refresh_token: str = field(repr=False)

    @property
    def identity(self) -> str:
        """By the client and the refresh token that it began with, not by its successors."""
        return identity_of(str(self.url), self.client.user, self.refresh_token, repr(self.auth))

    def request(self) -> Sent:
        """The exchange of the first refresh token."""
        return self.exchange(self.refresh_token)

    def exchange(self, refresh_token: str) -> Sent:
        """The exchange of a refresh token."""
        form = grant_form(self.auth, "refresh_token", ("refresh_token", refresh_token))
        return as_client(self.client, self.auth.client, form)

    def granted(self, content: bytes, headers: httpx.Headers) -> Granted:
        """A bearer token, and the next refresh token."""
        return bearer_in(content, self.api)


@dataclass(frozen=True, slots=True)
class Session:
    """A login. `client` has the user and the password."""

    api: Api
    auth: Login
    url: httpx.URL
    client: Client

    @property
    def identity(self) -> str:
        """By the user, the password and where they are sent."""
        return identity_of(str(self.url), self.client.user, self.client.secret, repr(self.auth))

    def request(self) -> Sent:
        """User and password."""
        auth, fields = self.auth, dict(self.auth.extra)
        headers: dict[str, str] = {}
        if auth.send == "basic":
            headers |= basic(self.client.user, self.client.secret)
        else:
            fields |= {auth.user: self.client.user, auth.password: self.client.secret}
        if auth.send == "json":
            return headers | {"Content-Type": "application/json"}, json.dumps(fields).encode()
        return headers | {"Content-Type": FORM}, urlencode(fields).encode()

    def granted(self, content: bytes, headers: httpx.Headers) -> Granted:
        """The session's token."""
        auth = self.auth
        if auth.header:
            value: str | int | None = headers.get(auth.header, "").strip()
        elif auth.cookie:
            found = httpx.Cookies()
            found.extract_cookies(httpx.Response(200, headers=headers, request=httpx.Request("POST", self.url)))
            value = next((cookie.value for cookie in found.jar if cookie.name == auth.cookie), None)
        else:
            try:
                value = Document(content).token(parse_path(auth.token))
            except (Absent, msgspec.MsgspecError, UnicodeDecodeError):
                value = None
        if not _VISIBLE.fullmatch(str(value or "")):
            raise AttemptFailed(
                "the login's response has no session token at the declared place",
                f"compare a response of {auth.path} with token=, header= or cookie= of Login in flows/sources/"
                f"{self.api.name}.py",
                kind=ConfigurationError,
            )
        return Granted(str(value), auth.lasts.total_seconds())


class _Response(msgspec.Struct):
    """The token response (RFC 6749, section 5.1)."""

    access_token: str
    token_type: str = "bearer"  # noqa: S105  # the kind, not the token
    expires_in: float | str | None = None
    refresh_token: str | None = None


def bearer_in(content: bytes, api: Api) -> Granted:
    """The bearer token of a response.

    Raises:
        AttemptFailed: it has none.
    """
    try:
        found = msgspec.json.decode(content, type=_Response)
        lasts = _UNSAID_SECONDS if found.expires_in is None else float(found.expires_in)
    except (msgspec.MsgspecError, ValueError):
        found, lasts = _Response(""), 0.0
    if not _VISIBLE.fullmatch(found.access_token) or found.token_type.lower() != "bearer":
        raise AttemptFailed(
            "the token server's response is not a bearer token",
            f"check token_url of the declared {type(api.auth).__name__} in flows/sources/{api.name}.py",
            kind=ConfigurationError,
        )
    ahead = min(lasts / 2, max(_AHEAD_SECONDS, lasts * _AHEAD_SHARE))
    return Granted(found.access_token, lasts - ahead, found.refresh_token or "")


def refresh_token_in(content: bytes) -> str:
    """The refresh token of a response, whatever else is in it."""
    try:
        found = msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    token = found.get("refresh_token") if isinstance(found, dict) else None
    return token if isinstance(token, str) else ""


def as_client(client: Client, how: str, form: list[tuple[str, str]]) -> Sent:
    """The form with the client's proof: as HTTP Basic, in the body, or only its id."""
    headers = {"Content-Type": FORM}
    if how == "basic":
        headers |= basic(quote_plus(client.user), quote_plus(client.secret))
    elif how == "body":
        form = [*form, ("client_id", client.user), ("client_secret", client.secret)]
    else:
        form = [*form, ("client_id", client.user)]
    return headers, urlencode(form).encode()


def basic(user: str, password: str) -> dict[str, str]:
    """HTTP Basic (RFC 7617)."""
    return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode('ascii')}"}


def whose(api: Api) -> str:
    """The variables of the credential, for messages."""
    return f"{user_variable(api)} and {key_variable(api)} (or the block source-{api.connection})"
