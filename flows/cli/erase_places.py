"""What `medallion erase` searches beside the warehouse: the home, and Prefect's database."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flows.access.addresses import embedded_stack
from flows.values.connection import DatabaseConnection
from flows.values.settings import settings

if TYPE_CHECKING:
    from flows.privacy.elsewhere import Elsewhere

PREFECT = "Prefect's database"
#: Prefect's own names of the setting, with SQLAlchemy's name of the driver in the URL.
_VARIABLES = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")


def elsewhere() -> Elsewhere:
    """The home's folder, and Prefect's database if its URL is known here: of the embedded stack, or of Prefect's own
    setting."""
    from flows.privacy.elsewhere import Elsewhere

    url = next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), None) or _embedded()
    home = settings().home
    return Elsewhere(
        (home,) if home.is_dir() else (),
        {PREFECT: DatabaseConnection("prefect", _plain(url))} if url and url.startswith("postgres") else {},
    )


def _plain(url: str) -> str:
    return url.replace("postgresql+asyncpg://", "postgresql://", 1)


def _embedded() -> str | None:
    stack = embedded_stack()
    if stack is None:
        return None
    from infra.local.accounts import prefect_database
    from infra.local.home import Home, read_json
    from infra.local.postgres import Cluster

    home = Home(settings().home)
    known = {name: str(value) for name, value in (read_json(home.credentials_file) or {}).items()}
    return prefect_database(home, Cluster(home.postgres), stack["postgres"]["port"], known)
