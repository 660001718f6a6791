"""PostgreSQL's log, for the promises that every kind keeps."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from flows.declare import Log, Merge, Rule
from flows.kinds.changelog import Database, Table
from tests.conftest import TestDatabase
from tests.kinds.changelog.log_ends import log_source
from tests.kinds.conformance.end import SECRET, End, Fixture
from tests.kinds.conformance.in_postgres import InPostgres
from tests.publish.two_ends import run_sql

SOURCE = Database(
    "conform",
    connection="conform",
    capture=Log(),
    tables=[
        Table(
            "items",
            key="id",
            load=Merge(),
            rules=(Rule("amount_not_negative", "amount >= 0"),),
            max_quarantined=0.5,
        )
    ],
)
_SET_UP = (
    "create publication {name} for table items with (publish_via_partition_root = true)",
    "select pg_create_logical_replication_slot('{name}', 'pgoutput')",
)


@dataclass
class LogEnd(InPostgres):
    """A table with a primary key, a publication and a slot."""

    def write(self, *items: tuple[int, str, int]) -> None:
        for number, name, amount in items:
            run_sql(
                self.shop.url("app"),
                "insert into items values (%(id)s, %(name)s, %(amount)s) "
                "on conflict (id) do update set name = excluded.name, amount = excluded.amount",
                {"id": number, "name": name, "amount": amount},
            )

    def double(self, number: int, name: str | None = None) -> None:
        raise NotImplementedError  # its key is unique, or nothing is captured


@contextmanager
def start(shop: TestDatabase, folder: Path) -> Iterator[End]:
    """`shop` stays unused: its server has no replication, and transactions of other tests."""
    with log_source() as shop:
        run_sql(shop.url("app"), "create table items (id bigint primary key, name text, amount int)")
        run_sql(shop.url("app"), "grant select on items to public")
        ((oid,),) = run_sql(shop.url("app"), "select oid from pg_database where datname = current_database()")
        for statement in _SET_UP:
            run_sql(shop.url("admin"), statement.format(name=f"medallion_conform_{oid}"))
        url = shop.url("extractor")
        parts = urlsplit(url)
        yield LogEnd(
            SOURCE,
            {"MEDALLION_SOURCE_CONFORM_URL": f"{url}?application_name={SECRET}"},
            item="id, name, amount",
            swapped="update {0} as r set name = o.name from {0} as o where (r.id, o.id) in ((3, 4), (4, 3))",
            dataset=(f"postgres://{parts.hostname}:{parts.port}", f"{parts.path[1:]}.public.items"),
            duplicates=False,
            masks=False,
            shop=shop,
        )


FIXTURE = Fixture(__name__, start)
