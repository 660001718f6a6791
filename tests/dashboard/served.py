"""A dashboard that is served on loopback over a warehouse, and browsers that are logged in to it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from flows.dashboard.desk import Desk
from flows.dashboard.people import ANALYST, OPERATOR, PERSONAL, VIEWER, People, Person, password_hash
from flows.dashboard.serving import HOST, listen, server
from flows.values.settings import settings
from tests.conftest import TestCluster, TestDatabase, fresh_warehouse

PASSWORD = "a long password of the tests"
ROLES = {
    "vera": [VIEWER],
    "otto": [OPERATOR],
    "anna": [ANALYST],
    "paula": [ANALYST, PERSONAL],
    "all": [OPERATOR, ANALYST],
}
_KEPT = password_hash(PASSWORD)
SEED = (Path(__file__).parents[2] / "benchmarks/dashboard.sql").read_text()
_CSRF = re.compile(r'name="csrf" value="([^"]+)"')


def people() -> People:
    """Everybody of `ROLES`, with the same password."""
    return People({name: (Person(name, frozenset(roles)), _KEPT) for name, roles in ROLES.items()})


@dataclass
class Browser:
    """Somebody's browser: keeps cookies, and sends forms as pages do."""

    client: httpx.Client

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(path, headers=headers)

    def csrf(self, path: str = "/alerts") -> str:
        """The token in the forms of a page."""
        found = _CSRF.search(self.get(path).text)
        assert found is not None, path
        return found[1]

    def post(self, path: str, *, csrf: str | None = None, **fields: str) -> httpx.Response:
        """A form as a page sends it, with the token of its own page or another."""
        token = self.csrf() if csrf is None else csrf
        return self.client.post(path, data={"csrf": token, **fields})


@dataclass
class Served:
    """A dashboard that answers at `url`, over `warehouse`."""

    url: str
    desk: Desk
    warehouse: TestDatabase

    def browser(self) -> Browser:
        """A browser that nobody has logged in with."""
        return Browser(httpx.Client(base_url=self.url, trust_env=False, timeout=30))

    def login(self, name: str) -> Browser:
        """A browser in which this person has logged in. Not by the form: a password takes 50 ms of a core."""
        browser = self.browser()
        cookie = self.desk.sessions.begin(Person(name, frozenset(ROLES[name])))
        browser.client.cookies.set(f"medallion_{self.url.rpartition(':')[2]}", cookie)
        return browser

    def forget(self) -> None:
        """What it remembers for some seconds."""
        for one in (self.desk.facts.readings, self.desk.facts.kept, self.desk.facts.models, self.desk.gold):
            one.forget()


@contextmanager
def serving(warehouse: TestDatabase, desk: Desk | None = None) -> Iterator[Served]:
    """A dashboard over this warehouse."""
    with pytest.MonkeyPatch.context() as patch:
        for name, role in (("", "loader"), ("_TRANSFORMER", "transformer"), ("_DASHBOARD", "dashboard")):
            patch.setenv(f"MEDALLION_WAREHOUSE{name}_URL", warehouse.url(role))
        settings.cache_clear()
        made = desk or Desk(people())
        opened = listen(0)
        port = opened.getsockname()[1]
        running = server(made, port)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [opened]}, daemon=True)
        thread.start()
        try:
            yield Served(f"http://{HOST}:{port}", made, warehouse)
        finally:
            running.should_exit = True
            thread.join(10)
            opened.close()
            settings.cache_clear()


@contextmanager
def served(cluster: TestCluster) -> Iterator[Served]:
    """A dashboard over a warehouse of its own."""
    with fresh_warehouse(cluster) as warehouse, serving(warehouse) as running:
        yield running
