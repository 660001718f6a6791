"""How to reach things. Representations never show a secret."""

import ipaddress
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from flows.values.errors import ConfigurationError

#: What an address may ask for toward another machine. `allow` and `prefer` leave it to whoever answers.
_TLS_MODES = ("verify-full", "verify-ca", "require", "disable")
_TLS_MODES_HERE = (*_TLS_MODES, "prefer", "allow")


@dataclass(frozen=True, slots=True)
class DatabaseConnection:
    """A PostgreSQL address: postgresql://user:password@host:port/database?sslmode=verify-full.

    Several servers of which one is the primary: postgresql://…@one:5432,two:5432/shop?target_session_attrs=primary.

    One that leads to another machine and says nothing of TLS becomes one with sslmode=verify-full, so that every driver
    that it is handed to checks the server. `reread` gives the address as it stands now in the store it came from, for
    credentials that were rotated since; None where nothing but this process could change it.

    Raises:
        ConfigurationError: its sslmode is none, is said twice, or leaves it to another machine whether to encrypt.
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
            return self.name  # a password with an unescaped slash: its pieces may stand anywhere
        place = f"{parts.hostname or ''}:{port or 5432}"
        _, at, hosts = parts.netloc.rpartition("@")
        if "," in hosts and at:  # several servers, of which one is the primary
            place = hosts
        return f"{unquote(parts.username or '')}@{place}{parts.path}"

    @property
    def user(self) -> str:
        """The role that it logs in as; empty if it names none."""
        return unquote(urlsplit(self.url).username or "")


def _with_verified_tls(name: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        query = parse_qs(parts.query, keep_blank_values=True)
    except ValueError:
        return url  # whoever connects says that it cannot be read
    if parts.scheme not in ("postgresql", "postgres"):
        return url
    modes = query.get("sslmode", [])
    here = all(_is_here(host) for host in _hosts(parts.netloc, query))
    if not modes:
        return url if here else f"{url}{'&' if parts.query else '?'}sslmode=verify-full"
    if len(modes) > 1:
        # Drivers differ in which of them they take.
        raise _refused(name, "sslmode is said more than once", _TLS_MODES_HERE if here else _TLS_MODES)
    if modes[0] not in _TLS_MODES_HERE:
        raise _refused(name, "sslmode is none that is known", _TLS_MODES_HERE if here else _TLS_MODES)
    if modes[0] not in _TLS_MODES and not here:
        what = f"sslmode={modes[0]} leaves it to whoever answers whether the connection is encrypted"
        raise _refused(name, what, _TLS_MODES)
    return url


def _refused(name: str, what: str, modes: tuple[str, ...]) -> ConfigurationError:
    return ConfigurationError(
        what,
        where=name,
        fix=f"write one of {', '.join(modes)} in the URL or block; disable only where the network is yours alone",
    )


def _hosts(netloc: str, query: dict[str, list[str]]) -> list[str]:
    """Every host that a driver might go to. None named: a socket, or what PGHOST or a service file says."""
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
    """An API's base address, the key it wants if any, and whose key it is (a user, an OAuth2 client's id)."""

    name: str
    base_url: str = field(repr=False)  # some write credentials into it
    key: str | None = field(default=None, repr=False)
    user: str | None = field(default=None, repr=False)
