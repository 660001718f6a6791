"""Who may use the dashboard, and what each may do.

    MEDALLION_DASHBOARD_USERS="anna:operator+analyst:scrypt.… ben:viewer:scrypt.…"

    viewer     pages of operations
    operator   the same, and what is done there: take up and silence alerts, load quarantined rows again
    analyst    pages of gold
    personal   with analyst: what gold knows of one customer, unmasked; each look is recorded

`medallion dashboard --add-user` asks for a password and prints the entry. Without users a token is made at each start,
and whoever has it is the account that runs the dashboard, with all roles.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from flows.values.errors import ConfigurationError
from flows.values.settings import Settings

VIEWER, OPERATOR, ANALYST, PERSONAL = "viewer", "operator", "analyst", "personal"
ROLES = frozenset({VIEWER, OPERATOR, ANALYST, PERSONAL})
_VARIABLE = "MEDALLION_DASHBOARD_USERS"
#: 16 MB and some 50 ms of a core for each guess (RFC 7914, section 2).
_COST = {"n": 2**14, "r": 8, "p": 1, "dklen": 32}
_SHORTEST_SECRET = 16


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who has logged in."""

    name: str
    roles: frozenset[str]

    def may(self, role: str) -> bool:
        """Whether they have the role; an operator is a viewer, too."""
        return role in self.roles or (role == VIEWER and OPERATOR in self.roles)


@dataclass(frozen=True, slots=True)
class People:
    """Who may log in, and how: by a password, by the token of this start, or at a reverse proxy (`header`)."""

    known: Mapping[str, tuple[Person, str]]
    token: str | None = field(default=None, repr=False)
    header: str | None = None
    proxy_secret: str | None = field(default=None, repr=False)

    def by_password(self, name: str, password: str) -> Person | None:
        """The person of that name, if the password is theirs. Takes as long if nobody has that name."""
        if self.token is not None:
            matches = hmac.compare_digest(password.encode(), self.token.encode())
            return token_holder() if matches else None
        person, kept = self.known.get(name, (None, _NOBODY))
        return person if is_password(password, kept or _NOBODY) else None

    def by_proxy(self, secret: str, name: str) -> Person | None:
        """The person whom the reverse proxy names, if it is the proxy that says so."""
        if self.proxy_secret is None or not hmac.compare_digest(secret.encode(), self.proxy_secret.encode()):
            return None
        return self.known.get(name, (None, ""))[0]


def token_holder() -> Person:
    """Who has the token of this start: the account that runs the dashboard."""
    return Person(getpass.getuser(), ROLES)


def read_people(settings: Settings) -> People:
    """Who may log in, from the settings.

    Raises:
        ConfigurationError: an entry cannot be read, or a proxy is declared without its secret.
    """
    listed = "" if settings.dashboard_users is None else settings.dashboard_users.get_secret_value()
    known = {person.name: (person, kept) for person, kept in map(_entry, listed.split())}
    header = settings.dashboard_proxy_header.strip() or None
    if header is None:
        return People(known) if known else People({}, token=secrets.token_urlsafe(24))
    secret = settings.dashboard_proxy_secret
    if secret is None or len(secret.get_secret_value()) < _SHORTEST_SECRET:
        raise ConfigurationError(
            "a reverse proxy is declared without a secret: any program on this machine could name itself anybody",
            where="MEDALLION_DASHBOARD_PROXY_SECRET",
            fix=f"set it to {_SHORTEST_SECRET} random characters or more; the proxy sends it as X-Medallion-Proxy",
        )
    return People(known, header=header, proxy_secret=secret.get_secret_value())


def _entry(text: str) -> tuple[Person, str]:
    name, _, rest = text.partition(":")
    roles, _, kept = rest.partition(":")
    named = frozenset(roles.split("+"))
    if not name or not named <= ROLES or (kept and not _readable(kept)):
        raise ConfigurationError(
            f"the entry of {name or 'nobody'!r} cannot be read",
            where=_VARIABLE,
            fix=f"write name:role+role:hash with roles of {', '.join(sorted(ROLES))}; "
            "`medallion dashboard --add-user NAME` prints an entry",
        )
    return Person(name, named), kept


def password_hash(password: str) -> str:
    """What is kept of a password: `scrypt.<salt>.<hash>`."""
    salt = secrets.token_bytes(16)
    return f"scrypt.{_text(salt)}.{_text(hashlib.scrypt(password.encode(), salt=salt, **_COST))}"


def is_password(password: str, kept: str) -> bool:
    """Whether that was kept of this password."""
    _, salt, hashed = kept.split(".")
    return hmac.compare_digest(hashlib.scrypt(password.encode(), salt=_bytes(salt), **_COST), _bytes(hashed))


def _readable(kept: str) -> bool:
    try:
        kind, salt, hashed = kept.split(".")
        return kind == "scrypt" and len(_bytes(salt)) >= 16 and len(_bytes(hashed)) == _COST["dklen"]
    except ValueError:
        return False


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


_NOBODY = password_hash(secrets.token_urlsafe())
