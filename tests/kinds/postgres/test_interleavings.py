"""Whatever order things happen in, raw and quarantine together are what the source holds.

Hypothesis interleaves inserts, updates, deletes, transactions that commit late or roll back, and new columns, with
loads. Since nothing happens at the source while one load runs, each load of a table with a key must leave exactly what
is committed there; a table without one may wait for open transactions, but never holds a row twice.
"""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.declare import Append, Merge, Overwrite, Replace, Rule, Sequence, Timestamp, TransactionId
from flows.kinds.postgres import Table
from flows.kinds.postgres import window as windows
from tests.conftest import TestCluster, fresh_shop, fresh_warehouse
from tests.nightly import nightly
from tests.publish.two_ends import Rows, TwoEnds

DOOR = (Rule("not_negative", "v >= 0"),)
TABLES = {
    "merged": Table(
        "merged", key="id", cursor=Timestamp("at"), load=Merge(), deletes=True, rules=DOOR, max_quarantined=1
    ),
    "traced": Table(
        "traced", key="id", cursor=TransactionId(), load=Merge(), deletes=True, rules=DOOR, max_quarantined=1
    ),
    "appended": Table("appended", key="id", cursor=Sequence("id"), load=Append(), rules=DOOR, max_quarantined=1),
    "keyless": Table("keyless", cursor=Sequence("id"), load=Append(), rules=DOOR, max_quarantined=1),
    "replaced": Table("replaced", key="id", load=Replace(min_share=0), rules=DOOR, max_quarantined=1),
    "overwritten": Table(
        "overwritten",
        key="id",
        cursor=Timestamp("at"),
        load=Overwrite(by="day", every="day", last=20),
        rules=DOOR,
        max_quarantined=1,
    ),
}
CHANGING = ("merged", "traced", "replaced", "overwritten")
# A row changes its partition with its value: 0 is among the last ones.
DAY = "current_date - 40 * abs(%s)"


class World:
    """One source, one warehouse, and two sessions that may leave a transaction open."""

    def __init__(self, ends: TwoEnds, app: psycopg.Connection, loader: psycopg.Connection) -> None:
        self.ends, self.app, self.loader = ends, app, loader
        self.late: dict[int, psycopg.Connection] = {}
        self.columns = 0
        for name in TABLES:
            app.execute(
                f"create table {name} (id bigint generated always as identity primary key, v int, "
                f"day date not null default current_date, at timestamptz not null default now()); "
                f"insert into {name} (v) values (1), (2), (-1)"
            )

    def session(self, number: int | None) -> psycopg.Connection:
        """A session with an open transaction, or for None one that commits each statement."""
        if number is None:
            return self.app
        if number not in self.late:
            self.late[number] = psycopg.connect(self.ends.shop.url("app"))
            self.late[number].execute("select now()")
        return self.late[number]

    def insert(self, number: int | None, value: int) -> None:
        for table in TABLES:
            self.session(number).execute(f"insert into {table} (v, day) values (%s, {DAY})", [value, value])

    def update(self, number: int | None, place: int, value: int) -> None:
        for table in CHANGING:
            self.session(number).execute(
                f"update {table} set v = %s, day = {DAY}, at = now() where {some_row(table, place)}", [value, value]
            )

    def delete(self, number: int | None, place: int) -> None:
        for table in CHANGING:
            # Of earlier partitions no cursor tells that a row is gone.
            seen = "day > current_date - 20" if table == "overwritten" else "true"
            self.session(number).execute(f"delete from {table} where {some_row(table, place)} and {seen}")

    def end(self, number: int, commits: bool) -> None:
        if session := self.late.pop(number, None):
            session.commit() if commits else session.rollback()
            session.close()

    def add_column(self, default: str) -> None:
        if self.late or self.columns == 2:  # it would wait for the open transactions
            return
        self.columns += 1
        for table in TABLES:
            self.app.execute(f"alter table {table} add column c{self.columns} int default {default}")

    def load(self, runner: asyncio.Runner, tables: tuple[str, ...]) -> None:
        for table in tables:
            result = runner.run(self.ends.load(TABLES[table]))
            assert result.counts.reconciliation == "match", table
            self.compare(table, settled=table != "keyless" or not self.late)

    def compare(self, table: str, *, settled: bool) -> None:
        # Without a key, rows that were there before a column was added keep null in it.
        columns = "id, v, day, at" + "".join(f", c{n + 1}" for n in range(self.columns if table != "keyless" else 0))
        source = self.app.execute(f"select {columns} from {table}").fetchall()
        raw = self.loader.execute(f"select {columns} from raw_shop.{table} where _deleted_at is null").fetchall()
        waiting = self.loader.execute(
            "select (row_data ->> 'id')::bigint, (row_data ->> 'v')::int from quarantine.rows "
            "where table_name = %s and resolved_at is null",
            [table],
        ).fetchall()
        good, bad = [row for row in source if row[1] >= 0], [row[:2] for row in source if row[1] < 0]
        assert len({row[0] for row in raw}) == len(raw)
        assert len({row[0] for row in waiting}) == len(waiting)
        if not settled:
            assert set(raw) <= set(good)
            assert set(waiting) <= set(bad)
            return
        assert set(waiting) == set(bad)
        # A row that turned bad keeps its last good version, where rows have keys to tell so.
        kept = {row for row in raw if row[0] in {identifier for identifier, _ in bad}}
        assert table in CHANGING or not kept
        assert set(raw) - kept == set(good)

    def image(self) -> list[Rows]:
        """Raw down to the physical rows."""
        return [
            self.loader.execute(
                f"select r.xmin::text, r.ctid::text, r::text from raw_shop.{table} as r order by 3"
            ).fetchall()
            for table in TABLES
        ]


def some_row(table: str, place: int) -> str:
    """A row counted from either end, but none that another session holds: this test would wait for itself."""
    order, offset = ("desc", -place - 1) if place < 0 else ("asc", place)
    return f"id = (select id from {table} order by id {order} offset {offset} limit 1 for update skip locked)"


SESSIONS = st.integers(0, 1)
WRITERS = st.none() | SESSIONS
# Mostly good rows; a negative one is for quarantine.
VALUES = st.sampled_from([0, 1, 2, 3, -1])
PLACES = st.integers(-3, 3)


def step(name: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.tuples(st.just(name), *arguments)


LOADS = step(
    "load",
    st.sampled_from(
        [("merged",), ("traced",), ("appended", "keyless"), ("replaced",), ("overwritten",), tuple(TABLES)]
    ),
)
ENDS = step("end", SESSIONS, st.booleans())
STEPS = st.one_of(
    step("insert", WRITERS, VALUES),
    step("insert", SESSIONS, VALUES),
    step("update", WRITERS, PLACES, VALUES),
    step("delete", WRITERS, PLACES),
    step("add_column", st.sampled_from(["null", "7"])),
    ENDS,
    LOADS,
    LOADS,
)


@contextmanager
def world(cluster: TestCluster) -> Iterator[World]:
    with ExitStack() as stack:
        ends = TwoEnds(stack.enter_context(fresh_warehouse(cluster)), stack.enter_context(fresh_shop(cluster)))
        app = stack.enter_context(psycopg.connect(ends.shop.url("app"), autocommit=True))
        loader = stack.enter_context(psycopg.connect(ends.warehouse.url("loader"), autocommit=True))
        made = World(ends, app, loader)
        try:
            yield made
        finally:
            for session in made.late.values():
                session.close()


@pytest.mark.parametrize("examples", [4, *nightly(40)])
def test_raw_and_quarantine_are_what_the_source_holds(
    cluster: TestCluster, monkeypatch: pytest.MonkeyPatch, examples: int
) -> None:
    # The guard of a second would have every load of this test read everything again, and hide a cursor gone too far.
    monkeypatch.setattr(windows, "_GUARD", timedelta(0))
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    tried = settings(max_examples=examples, deadline=None, suppress_health_check=slow)

    @tried
    @given(steps=st.lists(STEPS, min_size=14, max_size=24))
    def hold(steps: list[tuple[str, object]]) -> None:
        with world(cluster) as here:
            play(here, steps)

    hold()


def play(here: World, steps: list[tuple[str, object]]) -> None:
    with asyncio.Runner() as runner:
        for name, *arguments in steps:
            getattr(here, name)(*((runner, *arguments) if name == "load" else arguments))
        for number in [*here.late]:
            here.end(number, commits=True)
        here.load(runner, tuple(TABLES))
        before = here.image()
        here.load(runner, tuple(TABLES))
        assert here.image() == before, "a load of what is loaded already writes nothing"
