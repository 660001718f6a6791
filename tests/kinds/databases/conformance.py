"""SQLite, for the promises that every kind keeps: it needs no server, and is read as the other databases are."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from flows.declare import Merge, Rule, Sequence, Timestamp
from flows.kinds.databases import Database, Table
from tests.conftest import TestDatabase
from tests.kinds.conformance.end import SECRET, End, Fixture, Items

SOURCE = Database(
    "conform",
    connection="conform",
    engine="sqlite",
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
class SqliteEnd(End):
    """A file whose table has no constraint."""

    path: Path = field(kw_only=True)
    second: int = 0

    def run(self, statement: str, *values: object) -> list[tuple[int, str, int]]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(statement, values).fetchall()

    def write(self, *items: tuple[int, str, int]) -> None:
        for number, name, amount in items:
            self.second += 1
            moment = f"2020-01-01 {self.second // 3600:02}:{self.second // 60 % 60:02}:{self.second % 60:02}"
            self.delete(number)
            self.run("insert into items values (?, ?, ?, ?)", number, name, amount, moment)

    def delete(self, number: int) -> None:
        self.run("delete from items where id = ?", number)

    def double(self, number: int, name: str | None = None) -> None:
        query = "insert into items select id, coalesce(?, name), amount, changed_at from items where id = ?"
        self.run(query, name, number)

    def held(self) -> Items:
        return {row[0]: row[1:] for row in self.run("select id, name, amount from items")}

    @contextmanager
    def broken(self) -> Iterator[None]:
        away = self.path.with_suffix(".away")
        self.path.rename(away)
        yield
        away.rename(self.path)


@contextmanager
def start(shop: TestDatabase, folder: Path) -> Iterator[End]:
    path = folder / "conform.db"
    end = SqliteEnd(
        SOURCE,
        {"MEDALLION_SOURCE_CONFORM_URL": f"sqlite:///{path}?key={SECRET}"},
        item="id, name, amount",
        swapped="update {0} as r set name = o.name from {0} as o where (r.id, o.id) in ((3, 4), (4, 3))",
        dataset=(f"sqlite:///{path}", "items"),
        by_id=BY_ID,
        path=path,
    )
    end.run("create table items (id integer, name text, amount int, changed_at datetime)")
    yield end


FIXTURE = Fixture(
    __name__, start, lambda: "" if find_spec("adbc_driver_sqlite") else "the extra `databases` is not installed"
)
