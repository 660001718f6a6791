"""PostgreSQL, for the promises that every kind keeps."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from flows.declare import Merge, Rule, Sequence, Timestamp
from flows.kinds.postgres import Database, Table
from tests.conftest import TestDatabase
from tests.kinds.conformance.end import SECRET, End, Fixture
from tests.kinds.conformance.in_postgres import InPostgres
from tests.publish.two_ends import run_sql

SOURCE = Database(
    "conform",
    connection="conform",
    tables=[
        Table(
            "items",
            key="id",
            cursor=Timestamp("changed_at"),
            load=Merge(),
            deletes=True,
            rules=(Rule("amount_not_negative", "amount >= 0"),),
            max_quarantined=0.5,
        )
    ],
)

BY_ID = replace(SOURCE, name="conform_ids", tables=[replace(SOURCE.table("items"), cursor=Sequence("id"))])


@dataclass
class PostgresEnd(InPostgres):
    """A table without a constraint, so that a key may be there twice."""

    def write(self, *items: tuple[int, str, int]) -> None:
        for number, name, amount in items:
            values = {"id": number, "name": name, "amount": amount}
            run_sql(self.shop.url("app"), "delete from items where id = %(id)s", values)
            run_sql(
                self.shop.url("app"),
                "insert into items values (%(id)s, %(name)s, %(amount)s, clock_timestamp())",
                values,
            )

    def double(self, number: int, name: str | None = None) -> None:
        run_sql(
            self.shop.url("app"),
            "insert into items select id, coalesce(%s, name), amount, changed_at from items where id = %s",
            [name, number],
        )


@contextmanager
def start(shop: TestDatabase, folder: Path) -> Iterator[End]:
    columns = "id bigint not null, name text, amount int, changed_at timestamptz not null"
    run_sql(shop.url("app"), f"create table items ({columns})")
    run_sql(shop.url("app"), "create index on items (id)")
    run_sql(shop.url("app"), "create index on items (changed_at)")
    run_sql(shop.url("app"), "grant select on items to public")
    url = shop.url("extractor")
    parts = urlsplit(url)
    separator = "&" if "?" in url else "?"
    yield PostgresEnd(
        SOURCE,
        {"MEDALLION_SOURCE_CONFORM_URL": f"{url}{separator}application_name={SECRET}"},
        item="id, name, amount",
        swapped="update {0} as r set name = o.name from {0} as o where (r.id, o.id) in ((3, 4), (4, 3))",
        dataset=(f"postgres://{parts.hostname}:{parts.port}", f"{parts.path[1:]}.public.items"),
        by_id=BY_ID,
        settles=1.2,  # transactions are taken for a second older than they are
        shop=shop,
    )


FIXTURE = Fixture(__name__, start)
