"""Authentication by a credential that is sent as it is. Declarations never contain secrets.

The secret comes from MEDALLION_SOURCE_<CONNECTION>_KEY, its user or client id from
MEDALLION_SOURCE_<CONNECTION>_USER; or both from the block `source-<connection>`.
"""

import re
from dataclasses import dataclass

from flows.values.errors import DeclarationError
from flows.values.json_path import parse_path


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
class ApiKeyBody:
    """The key is sent in the body: a field of its JSON (a path), or of its form.

    ApiKeyBody("auth.token")
    """

    field: str = "api_key"

    def __post_init__(self) -> None:
        if not parse_path(self.field):
            raise DeclarationError("the field has no name", where="auth", fix='write ApiKeyBody("api_key")')


@dataclass(frozen=True, slots=True)
class Cookie:
    """The key is sent as a cookie: `Cookie: SESSION=…`."""

    name: str = "SESSION"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", self.name):
            raise DeclarationError(
                f"{self.name!r} is not a valid cookie name", where="auth", fix='write Cookie("SESSION")'
            )


@dataclass(frozen=True, slots=True)
class NoAuth:
    """The API needs no authentication."""
