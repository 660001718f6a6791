"""How an API knows who asks. What is secret never stands in a declaration.

The secret comes from MEDALLION_SOURCE_<CONNECTION>_KEY, the name that goes with it (a user, a client id) from
MEDALLION_SOURCE_<CONNECTION>_USER; or both from the block `source-<connection>`.
"""

import re
from dataclasses import dataclass
from typing import Literal

from flows.values.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class ApiKeyHeader:
    """The key travels in a header: `X-API-Key: …`."""

    header: str = "X-API-Key"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", self.header):  # a token of RFC 9110
            raise DeclarationError(
                f"{self.header!r} cannot be a header's name", where="auth", fix='write ApiKeyHeader("X-API-Key")'
            )


@dataclass(frozen=True, slots=True)
class ApiKeyQuery:
    """The key travels in the query: `?api_key=…`. Such URLs are never logged."""

    parameter: str = "api_key"


@dataclass(frozen=True, slots=True)
class Basic:
    """User and password (RFC 7617): `Authorization: Basic …`. The key is the password; …_USER the user.

    APIs that want their key as the user, or as the password of an empty one, are of this kind too.
    """


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token that somebody gave us: `Authorization: Bearer …` (RFC 6750).

    Bearer()              the usual
    Bearer("Token")       Django REST framework's word for it
    """

    scheme: str = "Bearer"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9._~-]+", self.scheme):
            raise DeclarationError(
                f"{self.scheme!r} cannot stand before a token", where="auth", fix='write Bearer("Token")'
            )


@dataclass(frozen=True, slots=True)
class OAuth2:
    """Client credentials (RFC 6749, section 4.4): …_USER is the client's id, the key its secret.

        OAuth2("/oauth/token")                                       below the base URL's host
        OAuth2("https://login.example.com/token", scope="read")      at another host, which alone gets the secret
        OAuth2("/token", client="body")                              for servers that do not take HTTP Basic

    A token is asked for once and shared by all reads of this process. It is renewed ahead of its end, and once when
    the API answers 401; the same request is then sent again.
    """

    token_url: str
    scope: str = ""
    params: tuple[tuple[str, str], ...] = ()
    client: Literal["basic", "body"] = "basic"

    def __post_init__(self) -> None:
        if not self.token_url.startswith(("/", "https://", "http://")) or "@" in self.token_url.partition("?")[0]:
            raise DeclarationError(
                "the token's address is neither a path nor a plain https address",
                where="auth",
                fix="write /oauth/token, or https://login.example.com/oauth/token",
            )


@dataclass(frozen=True, slots=True)
class NoAuth:
    """The API is open."""


Auth = ApiKeyHeader | ApiKeyQuery | Basic | Bearer | OAuth2 | NoAuth
