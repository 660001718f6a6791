"""Items in a table of PostgreSQL, for every kind that reads one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.conftest import TestDatabase
from tests.kinds.conformance.end import End, Items
from tests.publish.two_ends import run_sql


@dataclass
class InPostgres(End):
    """A table `items` of the application's. How rows are written, and whether keys may repeat, the kind says."""

    shop: TestDatabase = field(kw_only=True)

    def delete(self, number: int) -> None:
        run_sql(self.shop.url("app"), "delete from items where id = %s", [number])

    def held(self) -> Items:
        return {row[0]: row[1:] for row in run_sql(self.shop.url("app"), "select id, name, amount from items")}

    def hide(self, number: int) -> bool:
        run_sql(self.shop.url("app"), f"create policy hidden on items for select using (id <> {number})")
        run_sql(self.shop.url("app"), "alter table items enable row level security")
        return True

    @contextmanager
    def broken(self) -> Iterator[None]:
        run_sql(self.shop.url("app"), "alter table items rename to items_away")
        yield
        run_sql(self.shop.url("app"), "alter table items_away rename to items")
