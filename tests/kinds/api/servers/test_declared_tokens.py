"""Four declarations, of APIs with tokens, jobs and documents, killed at random: they end complete.

Each is as its provider's public documentation describes it, in at most twenty lines.
"""

import ast
import inspect
import itertools
import json
import os
import random
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.kinds.api.declared.api import Api
from tests.conftest import TestDatabase
from tests.kinds.api.servers import declared_tokens, selling_partner, xero
from tests.kinds.api.servers.analytics import Analytics, visit
from tests.kinds.api.servers.imitation import Imitation, Storm
from tests.kinds.api.servers.oauth import CLIENT_ID, CLIENT_SECRET, ServiceAccounts, TokenEndpoint
from tests.kinds.api.servers.salesforce import Salesforce
from tests.kinds.api.servers.selling_partner import LoginWithAmazon, SellingPartner, Store
from tests.kinds.api.servers.soak import WEATHER
from tests.kinds.api.servers.xero import Xero, XeroIdentity, invoice
from tests.kinds.conformance.forking import run
from tests.kinds.loading import rows
from tests.nightly import chosen, each_once

_versions = itertools.count(1)


@dataclass
class Subject:
    """A declaration with its servers: how they change, and what raw must hold."""

    name: str
    endpoint: str
    server: Imitation
    arguments: tuple[str, str]
    credential: dict[str, str]
    change: Callable[[random.Random], None]
    live: Callable[[], Mapping[str, Any]]
    query: str
    #: Jobs that were created, if there are any.
    jobs: Callable[[], int] = lambda: 0

    @property
    def api(self) -> Api:
        declared: Api = getattr(declared_tokens, self.name)(*self.arguments)
        return declared

    def load(self, warehouse: TestDatabase, home: Path, **variables: str) -> tuple[int, str]:
        """One load in a process of its own: how it ended, and what it said."""
        prefix = f"MEDALLION_SOURCE_{self.api.connection.upper()}"
        done = run(
            "tests.kinds.api.servers.one_declared_load",
            [self.name, self.endpoint],
            {
                "MEDALLION_HOME": str(home),
                "MEDALLION_WAREHOUSE_URL": warehouse.url("loader"),
                "MEDALLION_API_GROUP_SECONDS": "0",
                "ONE_DECLARED_LOAD": json.dumps([self.arguments, str(home / "pid")]),
                f"{prefix}_URL": self.server.url,
                **{f"{prefix}_{name}": value for name, value in self.credential.items()},
                **variables,
            },
        )
        assert "canary" not in done.stderr + done.stdout
        return done.returncode, done.stderr

    def killed_at(self, request: int, warehouse: TestDatabase, home: Path) -> bool:
        """A load that dies at the server's request of that number from now on; whether it came so far."""

        def kill() -> None:
            with suppress(ProcessLookupError):
                os.kill(int((home / "pid").read_text()), signal.SIGKILL)

        self.server.before[len(self.server.asked) + request] = kill
        return self.load(warehouse, home)[0] == -signal.SIGKILL

    def held(self, warehouse: TestDatabase) -> dict[str, Any]:
        """What raw holds, by key."""
        found = [tuple(row.values()) for row in rows(warehouse, self.query)]
        assert len(dict(found)) == len(found), "a key stands in raw twice"
        return dict(found)


@pytest.fixture
def servers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def of_salesforce(servers: ExitStack) -> Subject:
    tokens = servers.enter_context(TokenEndpoint())
    org = servers.enter_context(Salesforce(tokens=tokens))
    return Subject(
        "salesforce",
        "accounts",
        org,
        (tokens.address, ""),
        {"USER": CLIENT_ID, "KEY": CLIENT_SECRET},
        lambda chance: org.put(*chance.sample(range(300), 120), version=next(_versions)),
        lambda: {key: row["Name"] for key, row in org.accounts.items()},
        "select \"Id\" as key, payload ->> 'Name' as value from raw_salesforce.accounts",
        lambda: len(org.jobs),
    )


def of_amazon(servers: ExitStack) -> Subject:
    store, login = servers.enter_context(Store()), servers.enter_context(LoginWithAmazon())
    seller = servers.enter_context(SellingPartner(store=store, login=login))
    return Subject(
        "selling_partner",
        "orders",
        seller,
        (f"{login.url}/auth/o2/token", store.url.removeprefix("http://")),
        {"USER": selling_partner.CLIENT_ID, "KEY": selling_partner.CLIENT_SECRET, "TOKEN": login.refresh_token},
        lambda chance: seller.put(*chance.sample(range(300), 120), version=next(_versions)),
        lambda: {key: row[2] for key, row in seller.orders.items()},
        "select \"amazon-order-id\" as key, payload ->> 'product-name' as value from raw_amazon.orders",
        lambda: len(seller.reports),
    )


def of_xero(servers: ExitStack) -> Subject:
    identity = servers.enter_context(XeroIdentity(lifetime=1))
    books = servers.enter_context(Xero(identity=identity))

    def change(chance: random.Random) -> None:
        books.invoices += [invoice(len(books.invoices) + number) for number in range(chance.randrange(20, 60))]

    return Subject(
        "xero",
        "invoices",
        books,
        (f"{identity.url}/connect/token", ""),
        {"USER": xero.CLIENT_ID, "KEY": xero.CLIENT_SECRET, "TOKEN": identity.authorise()},
        change,
        lambda: {one["InvoiceID"]: one["Total"] for one in books.invoices},
        "select \"InvoiceID\" as key, (payload ->> 'Total')::float as value from raw_xero.invoices",
    )


def of_analytics(servers: ExitStack) -> Subject:
    accounts = servers.enter_context(ServiceAccounts())
    analytics = servers.enter_context(Analytics(tokens=accounts))

    def change(chance: random.Random) -> None:
        day = 1 + len(analytics.events) // 5
        analytics.events += [visit(day + n, country, n) for n in range(4) for country in ("AT", "BE", "CH", "DE", "ES")]

    def live() -> dict[str, int]:
        sums: dict[str, int] = {}
        for event in analytics.events:
            key = event["date"] + event["country"]
            sums[key] = sums.get(key, 0) + event["sessions"]
        return sums

    return Subject(
        "google_analytics",
        "daily",
        analytics,
        (accounts.address, ""),
        {"KEY": accounts.file},
        change,
        live,
        "select date || country as key, (payload #>> '{metricValues,0,value}')::int as value from raw_ga4.daily",
    )


SUBJECTS = (of_salesforce, of_amazon, of_xero, of_analytics)


@pytest.mark.parametrize("of", chosen(SUBJECTS, of_salesforce, of_xero))
def test_killed_at_random_in_bad_weather_it_ends_complete(
    of: Callable[[ExitStack], Subject], warehouse: TestDatabase, servers: ExitStack, tmp_path: Path
) -> None:
    """Seconds, since each round is a process or two that reads a list page by page."""
    subject, chance = of(servers), random.Random(5)
    killed = 0
    for _ in range(4):
        subject.change(chance)
        subject.server.storm = Storm(chance, share=0.15, kinds=WEATHER)
        killed += subject.killed_at(chance.randrange(1, 9), warehouse, tmp_path)
    subject.server.storm = None
    subject.server.before.clear()
    for _ in range(2):
        assert subject.load(warehouse, tmp_path) == (0, "")
    assert killed >= 2
    assert subject.held(warehouse) == subject.live()
    # A job for each load at most, and one more if the answer that has its id was lost.
    assert subject.jobs() <= 2 * 6


@pytest.mark.parametrize(("request_number", "of"), each_once([2, 3, 4], [of_salesforce, of_amazon]))
def test_a_load_killed_while_its_job_runs_goes_on_with_the_same_job(
    of: Callable[[ExitStack], Subject], request_number: int, warehouse: TestDatabase, servers: ExitStack, tmp_path: Path
) -> None:
    """From the first poll on: the id is durable before the job is waited for."""
    subject = of(servers)
    subject.change(random.Random(1))
    assert subject.killed_at(request_number, warehouse, tmp_path)
    assert subject.load(warehouse, tmp_path) == (0, "")
    assert subject.jobs() == 1
    assert subject.held(warehouse) == subject.live()


@pytest.mark.parametrize("of", SUBJECTS)
def test_a_declaration_has_at_most_twenty_lines(of: Callable[[ExitStack], Subject], servers: ExitStack) -> None:
    function = getattr(declared_tokens, of(servers).name)
    body = ast.parse(inspect.getsource(function)).body[0]
    assert isinstance(body, ast.FunctionDef)
    returned = body.body[-1]
    assert returned.end_lineno is not None
    assert returned.end_lineno - returned.lineno < 20
