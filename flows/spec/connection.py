"""How to reach things. Representations never show a secret."""

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, slots=True)
class DatabaseConnection:
    """A PostgreSQL address: postgresql://user:password@host:port/database?sslmode=verify-full."""

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
        # A password with an unescaped slash in it ends up in the path, and what is right of it after an @.
        path = "" if "@" in parts.path else parts.path
        return f"{unquote(parts.username or '')}@{parts.hostname or ''}:{port or 5432}{path}"


@dataclass(frozen=True, slots=True)
class ApiConnection:
    """An API's base address, the key it wants if any, and whose key it is (a user, an OAuth2 client's id)."""

    name: str
    base_url: str = field(repr=False)  # some write credentials into it
    key: str | None = field(default=None, repr=False)
    user: str | None = field(default=None, repr=False)
