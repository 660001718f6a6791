"""Authentication. Declarations never contain secrets.

The secret comes from MEDALLION_SOURCE_<CONNECTION>_KEY, its user or client id from
MEDALLION_SOURCE_<CONNECTION>_USER; or both from the block `source-<connection>`.
"""

import re
from dataclasses import dataclass
from typing import Literal

from flows.values.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class ApiKeyHeader:
    """The key is sent in a header: `X-API-Key: …`."""

    header: str = "X-API-Key"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", self.header):  # a token of RFC 9110
            raise DeclarationError(
                f"{self.header!r} is not a valid header name", where="auth", fix='write ApiKeyHeader("X-API-Key")'
            )


@dataclass(frozen=True, slots=True)
class ApiKeyQuery:
    """The key is sent in the query: `?api_key=…`. Such URLs are never logged."""

    parameter: str = "api_key"


@dataclass(frozen=True, slots=True)
class Basic:
    """User and password (RFC 7617): `Authorization: Basic …`. The key is the password; …_USER the user.

    Also for APIs that expect their key as the user, or as the password of an empty user.
    """


@dataclass(frozen=True, slots=True)
class Bearer:
    """A fixed token: `Authorization: Bearer …` (RFC 6750).

    Bearer()              the usual scheme
    Bearer("Token")       the scheme of Django REST framework
    """

    scheme: str = "Bearer"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9._~-]+", self.scheme):
            raise DeclarationError(
                f"{self.scheme!r} is not a valid authentication scheme", where="auth", fix='write Bearer("Token")'
            )


@dataclass(frozen=True, slots=True)
class OAuth2:
    """Client credentials (RFC 6749, section 4.4): …_USER is the client's id, the key its secret.

        OAuth2("/oauth/token")                                       below the base URL's host
        OAuth2("https://login.example.com/token", scope="read")      at another host; only that host gets the secret
        OAuth2("/token", client="body")                              for servers that do not take HTTP Basic

    A token is requested once and shared by all reads of this process. It is renewed before it expires, and once when
    the API responds with 401; the same request is then sent again.
    """

    token_url: str
    scope: str = ""
    params: tuple[tuple[str, str], ...] = ()
    client: Literal["basic", "body"] = "basic"

    def __post_init__(self) -> None:
        if not self.token_url.startswith(("/", "https://", "http://")) or "@" in self.token_url.partition("?")[0]:
            raise DeclarationError(
                "token_url is neither a path nor a plain https URL",
                where="auth",
                fix="write /oauth/token, or https://login.example.com/oauth/token",
            )


@dataclass(frozen=True, slots=True)
class NoAuth:
    """The API needs no authentication."""


Auth = ApiKeyHeader | ApiKeyQuery | Basic | Bearer | OAuth2 | NoAuth
