"""PostgreSQL with triggers, for the promises that every kind keeps."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from flows.access.addresses import connect
from flows.declare import Merge, Rule, Triggers
from flows.kinds.captured import Database, Table
from flows.kinds.captured.setup import set_up
from flows.values.connection import DatabaseConnection
from tests.conftest import TestDatabase
from tests.kinds.conformance.end import SECRET, End, Fixture
from tests.kinds.conformance.in_postgres import InPostgres
from tests.publish.two_ends import run_sql

SOURCE = Database(
    "conform",
    connection="conform",
    capture=Triggers(),
    tables=[
        Table(
            "items",
            key="id",
            load=Merge(),
            rules=(Rule("amount_not_negative", "amount >= 0"),),
            max_quarantined=0.8,  # only changed rows are read, of which more may be bad
        )
    ],
)


@dataclass
class CapturedEnd(InPostgres):
    """A table without a constraint, whose changes are recorded."""

    def write(self, *items: tuple[int, str, int]) -> None:
        for number, name, amount in items:
            values = {"id": number, "name": name, "amount": amount}
            run_sql(
                self.shop.url("app"),
                "with changed as (update items set name = %(name)s, amount = %(amount)s where ctid = "
                "(select min(ctid) from items where id = %(id)s) returning ctid), others as (delete from items "
                "where id = %(id)s and ctid <> (select min(ctid) from items where id = %(id)s)) "
                "insert into items select %(id)s, %(name)s, %(amount)s where not exists (select from changed)",
                values,
            )

    def double(self, number: int, name: str | None = None) -> None:
        run_sql(
            self.shop.url("app"),
            "insert into items select id, coalesce(%s, name), amount from items where id = %s",
            [name, number],
        )


@contextmanager
def start(shop: TestDatabase, folder: Path) -> Iterator[End]:
    run_sql(shop.url("app"), "create table items (id bigint, name text, amount int)")
    run_sql(shop.url("app"), "grant select on items to public")
    url = shop.url("extractor")
    parts = urlsplit(url)
    with ThreadPoolExecutor(1) as aside:  # a loop is running here
        aside.submit(asyncio.run, _set_up(shop, str(parts.username))).result()
    yield CapturedEnd(
        SOURCE,
        {"MEDALLION_SOURCE_CONFORM_URL": f"{url}?application_name={SECRET}"},
        item="id, name, amount",
        swapped="update {0} as r set name = o.name from {0} as o where (r.id, o.id) in ((3, 4), (4, 3))",
        dataset=(f"postgres://{parts.hostname}:{parts.port}", f"{parts.path[1:]}.public.items"),
        shop=shop,
    )


async def _set_up(shop: TestDatabase, reader: str) -> None:
    async with connect(DatabaseConnection("shop", shop.url("admin")), side="source") as origin:
        steps = await set_up(origin, SOURCE, reader)
    assert [step.error for step in steps if not step.done] == []


FIXTURE = Fixture(__name__, start)
