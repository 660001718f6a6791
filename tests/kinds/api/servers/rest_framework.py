"""A Django REST framework app with each of its paginations: https://www.django-rest-framework.org/api-guide/pagination/.

    GET /page/items/?page=2&page_size=50     → {"count": 120, "next": "http://…?page=3&page_size=50", "previous": …, "results": [...]}
    GET /offset/items/?limit=50&offset=50    → the same, with limit and offset in `next`
    GET /cursor/items/?page_size=50          → {"next": "http://…?cursor=cD0y…", "previous": null, "results": [...]}
    GET /throttled/items/                    → page numbers, at `THROTTLE` requests; then 429 with Retry-After in seconds

All want `Authorization: Token …`, and take `updated_since`. Ordered by `id`; the cursor by `updated_at`, as the
framework advises for lists that grow.
"""  # noqa: E501

import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.local.ports import any_free
from tests.kinds.api.servers.program import program

TOKEN = "canary-drf-8c02"
ROOT = Path(__file__).parents[4]
Item = tuple[int, str, str]
"""id, name, updated_at in ISO 8601."""


@dataclass(frozen=True)
class RestFramework:
    """The running app. Its rows are written past it, as an application's other parts would."""

    url: str
    database: Path

    def write(self, items: Sequence[Item]) -> None:
        """Insert items, or replace those of the same id."""
        with closing(self._connect()) as connection, connection:
            connection.executemany("insert or replace into items (id, name, updated_at) values (?, ?, ?)", items)

    def delete(self, *ids: int) -> None:
        """Delete items, without a trace."""
        with closing(self._connect()) as connection, connection:
            connection.executemany("delete from items where id = ?", [(one,) for one in ids])

    def clear(self) -> None:
        """Delete every item."""
        with closing(self._connect()) as connection, connection:
            connection.execute("delete from items")

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.database, timeout=30)


@contextmanager
def running_rest_framework(folder: Path) -> Iterator[RestFramework]:
    """Start it in `folder`, on a free port of the loopback interface."""
    port, database = any_free(), folder / "items.sqlite"
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "tests.kinds.api.servers.rest_framework_app", str(port), str(database), TOKEN]
    with program(command, ready=f"{url}/page/items/", log=folder / "rest_framework.log", cwd=ROOT):
        yield RestFramework(url, database)
