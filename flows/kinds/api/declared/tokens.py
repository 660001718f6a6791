"""Authentication by tokens that are requested first. Declarations never contain secrets.

…_KEY, …_USER, …_TOKEN stand for MEDALLION_SOURCE_<CONNECTION>_KEY and so on, or the fields of the block
`source-<connection>`.
"""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from flows.declare.duration import parse_duration
from flows.kinds.api.declared.sent import ApiKeyBody, ApiKeyHeader, ApiKeyQuery, Bearer, Cookie
from flows.values.errors import DeclarationError
from flows.values.json_path import parse_path

Pairs = tuple[tuple[str, str], ...]
SentAs = ApiKeyBody | ApiKeyHeader | ApiKeyQuery | Bearer | Cookie
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA", "HS256", "HS384", "HS512"]


def _refuse_address(url: str) -> None:
    if not url.startswith(("/", "https://", "http://")) or "@" in url.partition("?")[0]:
        raise DeclarationError(
            "token_url is neither a path nor a plain https URL",
            where="auth",
            fix="write /oauth/token, or https://login.example.com/oauth/token",
        )


@dataclass(frozen=True, slots=True)
class OAuth2:
    """Client credentials (RFC 6749, section 4.4): …_USER is the client's id, the key its secret.

        OAuth2("/oauth/token")                                       below the base URL's host
        OAuth2("https://login.example.com/token", scope="read")      at another host; only that host gets the secret
        OAuth2("/token", client="body")                              for servers that do not take HTTP Basic
        OAuth2("/token", sent_as=ApiKeyHeader("X-Access-Token"))     sent elsewhere than as a bearer token

    A token is requested once and shared by all reads of this process. It is renewed before it expires, and once when
    the API responds with 401; the same request is then sent again.
    """

    token_url: str
    scope: str = ""
    params: Pairs = ()
    client: Literal["basic", "body"] = "basic"
    sent_as: SentAs = field(default_factory=Bearer)

    def __post_init__(self) -> None:
        _refuse_address(self.token_url)


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """The refresh-token grant (RFC 6749, section 6), also of servers that replace the refresh token with every use.

        RefreshToken("https://identity.xero.com/connect/token")
        RefreshToken("/oauth/token", client="none")     a public client, which has no secret

    …_USER is the client's id, …_KEY its secret, …_TOKEN the refresh token that authorising the app returned. What
    replaces it is kept in the store that has the credential, before the new access token is used, and only one run at
    a time exchanges it. A new …_TOKEN discards what is kept.
    """

    token_url: str
    scope: str = ""
    params: Pairs = ()
    client: Literal["basic", "body", "none"] = "basic"
    sent_as: SentAs = field(default_factory=Bearer)

    def __post_init__(self) -> None:
        _refuse_address(self.token_url)


@dataclass(frozen=True, slots=True)
class JwtBearer:
    """A signed assertion, as of service accounts (RFC 7523).

        JwtBearer("https://oauth2.googleapis.com/token", scope="https://www.googleapis.com/auth/analytics.readonly")
        JwtBearer("/services/oauth2/token", subject="ann@example.com", audience="https://login.salesforce.com")
        JwtBearer("/token", proves="client")      the client is proven by it (client_assertion), and has no secret
        JwtBearer(lifetime="10 min")              no token server: the API takes the assertion itself as the token

    …_KEY is the private key in PEM, and …_USER the issuer; or …_KEY is the JSON file of a Google service account,
    which has both. `audience` is the token URL, unless declared. `claims` and `headers` are added to the assertion.
    """

    token_url: str = ""
    scope: str = ""
    subject: str = ""
    audience: str = ""
    algorithm: Algorithm = "RS256"
    lifetime: str = "1 h"
    proves: Literal["grant", "client"] = "grant"
    claims: Pairs = ()
    headers: Pairs = ()
    params: Pairs = ()
    sent_as: SentAs = field(default_factory=Bearer)

    def __post_init__(self) -> None:
        if self.token_url:
            _refuse_address(self.token_url)
        if not timedelta(seconds=10) <= self.lasts <= timedelta(days=1):
            raise DeclarationError(
                f"an assertion of {self.lifetime} is of no use",
                where="auth",
                fix='write a lifetime such as "10 min"; most servers allow an hour at most',
            )

    @property
    def lasts(self) -> timedelta:
        """The lifetime."""
        return parse_duration(self.lifetime, "auth")


@dataclass(frozen=True, slots=True)
class Login:
    """A login with user and password that returns a session token.

        Login("/api/login", token="data.sessionId", sent_as=ApiKeyHeader("X-Session"))
        Login("/api/session", user="email", password="secret", token="token", extra=(("tenant", "42"),))
        Login("/login", send="form", cookie="SESSION", sent_as=Cookie("SESSION"))
        Login("/auth", send="basic", header="X-Auth-Token", expires=(401, 403))

    …_USER and …_KEY are sent in the fields `user` and `password` of a JSON body or a form, or as HTTP Basic. The token
    is at a path of the response's JSON, or in a header or cookie of it. It is renewed after `lifetime`, and once when
    the API responds with one of `expires`.
    """

    path: str
    user: str = "username"
    password: str = "password"  # noqa: S105 # nosec B105 - a field's name
    extra: Pairs = ()
    send: Literal["json", "form", "basic"] = "json"
    token: str = ""
    header: str = ""
    cookie: str = ""
    sent_as: SentAs = field(default_factory=Bearer)
    lifetime: str = "12 h"
    expires: tuple[int, ...] = (401,)

    def __post_init__(self) -> None:
        _refuse_address(self.path)
        parse_path(self.token)
        if sum(map(bool, (self.token, self.header, self.cookie))) != 1:
            raise DeclarationError(
                "a session token is at one place of the login's response",
                where="auth",
                fix='write token="data.sessionId", or header="X-Auth-Token", or cookie="SESSION"',
            )
        if not self.expires or not all(400 <= status < 500 for status in self.expires):
            raise DeclarationError(
                "expires= has the statuses by which the API says that a session has expired",
                where="auth",
                fix="write expires=(401,), or (401, 403)",
            )
        if self.lasts <= timedelta(0):
            raise DeclarationError("the lifetime must be above 0", where="auth", fix='write lifetime="30 min"')

    @property
    def lasts(self) -> timedelta:
        """The lifetime."""
        return parse_duration(self.lifetime, "auth")


@dataclass(frozen=True, slots=True)
class Signed:
    """Requests that are signed by a function: HMAC, or whatever an API has invented.

        Signed("flows.hooks.exchange:sign")

        def sign(request: Outgoing, key: str, user: str) -> None:
            stamp = str(int(time.time()))
            message = f"{stamp}{request.method}{request.target}".encode() + request.body
            request.headers["X-Stamp"] = stamp
            request.headers["X-Signature"] = hmac.new(key.encode(), message, "sha256").hexdigest()

    It is called for each request, also a repeated one, and may set headers, the URL's query and the body. …_KEY is
    required.
    """

    hook: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", self.hook):
            raise DeclarationError(
                f"{self.hook!r} does not name a function", where="auth", fix='write "flows.hooks.exchange:sign"'
            )


@dataclass(frozen=True, slots=True)
class SeveralKeys:
    """Several keys of one API, each with a rate limit of its own. …_KEY has them, separated by spaces or lines.

        SeveralKeys()                                sent as Bearer()
        SeveralKeys(ApiKeyHeader("X-API-Key"))

    Requests take turns. A key whose limit is used up is left out until it is over; the load waits only when all are.
    A key that the API rejects is put aside, and the load warns; it fails when all are rejected.
    """

    sent_as: ApiKeyHeader | ApiKeyQuery | Bearer = field(default_factory=Bearer)
