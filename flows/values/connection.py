"""Connections to databases and APIs. Their repr never shows a secret."""

import ipaddress
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from flows.values.errors import ConfigurationError
from flows.values.kept_token import TokenKeeper

#: Allowed sslmodes for other machines. `allow` and `prefer` let the server decide.
_TLS_MODES = ("verify-full", "verify-ca", "require", "disable")
_TLS_MODES_HERE = (*_TLS_MODES, "prefer", "allow")


@dataclass(frozen=True, slots=True)
class DatabaseConnection:
    """A PostgreSQL connection URL: postgresql://user:password@host:port/database?sslmode=verify-full.

    Several servers of which one is the primary: postgresql://…@one:5432,two:5432/shop?target_session_attrs=primary.

    A URL of another machine without sslmode gets sslmode=verify-full, so that every driver verifies the server.
    `reread` returns the current URL from its store, for credentials that were rotated since; None if only this process
    could change it.

    Raises:
        ConfigurationError: its sslmode is unknown, set twice, or lets another machine decide whether to encrypt.
    """

    name: str
    url: str = field(repr=False)
    reread: "Callable[[], DatabaseConnection] | None" = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", _with_verified_tls(self.name, self.url))

    @property
    def safe_address(self) -> str:
        """user@host:port/database, for messages."""
        parts = urlsplit(self.url)
        try:
            port = parts.port
        except ValueError:
            port = None
        if "@" in parts.path:
            return self.name  # a password with an unescaped slash: its parts may be anywhere
        place = f"{parts.hostname or ''}:{port or 5432}"
        _, at, hosts = parts.netloc.rpartition("@")
        if "," in hosts and at:  # several servers, of which one is the primary
            place = hosts
        return f"{unquote(parts.username or '')}@{place}{parts.path}"

    @property
    def user(self) -> str:
        """The login role; empty if there is none."""
        return unquote(urlsplit(self.url).username or "")


def _with_verified_tls(name: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        query = parse_qs(parts.query, keep_blank_values=True)
    except ValueError:
        return url  # the connection attempt reports that it is invalid
    if parts.scheme not in ("postgresql", "postgres"):
        return url
    modes = query.get("sslmode", [])
    here = all(_is_here(host) for host in _hosts(parts.netloc, query))
    if not modes:
        return url if here else f"{url}{'&' if parts.query else '?'}sslmode=verify-full"
    if len(modes) > 1:
        # Drivers differ in which of them they use.
        raise _refused(name, "sslmode is set more than once", _TLS_MODES_HERE if here else _TLS_MODES)
    if modes[0] not in _TLS_MODES_HERE:
        raise _refused(name, "sslmode has an unknown value", _TLS_MODES_HERE if here else _TLS_MODES)
    if modes[0] not in _TLS_MODES and not here:
        what = f"sslmode={modes[0]} lets the server decide whether the connection is encrypted"
        raise _refused(name, what, _TLS_MODES)
    return url


def _refused(name: str, what: str, modes: tuple[str, ...]) -> ConfigurationError:
    return ConfigurationError(
        what,
        where=name,
        fix=f"write one of {', '.join(modes)} in the URL or block; use disable only in a private network",
    )


def _hosts(netloc: str, query: dict[str, list[str]]) -> list[str]:
    """Every host that a driver might use. None: a socket, PGHOST or a service file."""
    named = netloc.rpartition("@")[2].split(",")
    hosts = [host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0] for host in named]
    for key in ("host", "hostaddr"):
        hosts += [host for value in query.get(key, []) for host in value.split(",")]
    if not any(hosts):
        hosts = os.environ.get("PGHOST", "").split(",")
        hosts += ["unknown"] if "service" in query or "PGSERVICE" in os.environ else []
    return [unquote(host) for host in hosts if host]


def _is_here(host: str) -> bool:
    if host.startswith(("/", "@")) or host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


@dataclass(frozen=True, slots=True)
class ApiConnection:
    """An API's base URL, its key if any, and the key's user or OAuth2 client id.

    `token` is a first refresh token, and `tokens` keeps those that replace it; `certificate` is a client certificate
    with its key, in PEM, or the path of such a file.
    """

    name: str
    base_url: str = field(repr=False)  # some people put credentials into it
    key: str | None = field(default=None, repr=False)
    user: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)
    tokens: TokenKeeper | None = field(default=None, repr=False, compare=False)
