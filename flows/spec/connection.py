"""How to reach things. Representations never show a secret."""

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, slots=True)
class DatabaseConnection:
    """A PostgreSQL address: postgresql://user:password@host:port/database?sslmode=verify-full.

    Several servers of which one is the primary: postgresql://…@one:5432,two:5432/shop?target_session_attrs=primary.
    """

    name: str
    url: str = field(repr=False)

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


@dataclass(frozen=True, slots=True)
class ApiConnection:
    """An API's base address, the key it wants if any, and whose key it is (a user, an OAuth2 client's id)."""

    name: str
    base_url: str = field(repr=False)  # some write credentials into it
    key: str | None = field(default=None, repr=False)
    user: str | None = field(default=None, repr=False)
