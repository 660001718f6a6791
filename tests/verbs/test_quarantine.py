"""Rows in quarantine that a person lists, fixes, discards, and loads again."""

from collections.abc import Iterator
from typing import Any

import pytest

from flows.declare import Append, Merge, Overwrite, Replace, Rule, Sequence, Timestamp
from flows.kinds.postgres import Database, Table
from flows.values.settings import settings
from flows.verbs.replay import plan_replay, replay
from tests.conftest import TestDatabase
from tests.publish.two_ends import Rows, TwoEnds, run_sql

POSITIVE = Rule("positive", "v >= 0")
MERGE = Table("t", key="id", load=Merge(), deletes=True, rules=(POSITIVE,), max_quarantined=0.5)
REPLACE = Table("t", key="id", load=Replace(), rules=(POSITIVE,), max_quarantined=0.5)
APPEND = Table("t", key="id", load=Append(), cursor=Sequence("id"), rules=(POSITIVE,), max_quarantined=0.5)
KEYLESS = Table("t", load=Replace(), rules=(POSITIVE,), max_quarantined=0.5)
BY_PART = Table("t", key="id", load=Overwrite(by="at", every="month"), rules=(POSITIVE,), max_quarantined=0.5)
PART = Table("t", load=Overwrite(by="at", every="month"), rules=(POSITIVE,), max_quarantined=0.5)
EVERY = {"merge": MERGE, "replace": REPLACE, "append": APPEND, "keyless": KEYLESS, "by part": BY_PART, "part": PART}


class Shop(TwoEnds):
    """Both ends, and the table as it is declared now."""

    table: Table

    def declare(self, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
        object.__setattr__(self, "table", table)
        monkeypatch.setattr("flows.verbs.find.SOURCES", (Database("shop", connection="shop", tables=[table]),))

    def entries(self, columns: str = "row_key ->> 'id', rule, resolution") -> Rows:
        return self.raw(f"select {columns} from quarantine.rows order by quarantine_id")

    def ids(self) -> list[str]:
        return [str(row[0]) for row in self.entries("quarantine_id")]


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", warehouse.url("loader"))
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_URL", shop.url("extractor"))
    settings.cache_clear()
    two = Shop(warehouse, shop)
    two.source(
        "create table t (id int primary key, v int, note text, at timestamptz not null default '2026-01-01');"
        "insert into t select i, i, 'good' from generate_series(1, 10) as i; insert into t values (11, -1, 'bad')"
    )
    yield two
    settings.cache_clear()


def loosened(table: Table) -> Table:
    from dataclasses import replace as changed

    return changed(table, rules=(Rule("positive", "v >= -1"),))


@pytest.mark.parametrize("name", EVERY)
async def test_a_row_that_a_corrected_rule_accepts_is_loaded_once(
    ends: Shop, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ends.load(EVERY[name])
    ends.declare(loosened(EVERY[name]), monkeypatch)

    (planned,) = await plan_replay(["shop.t"])
    assert [(one.verdict, one.rows) for one in planned.outcomes] == [(None, 1)]
    assert ends.entries("resolved_at") == [(None,)]
    (done,) = await replay(["shop.t"], "ada")

    assert done.result is not None
    counts = done.result.counts
    assert (counts.rows_read, counts.rows_inserted, counts.rows_quarantined) == (1, 1, 0)
    assert ends.same("t", "id, v, note, at")
    assert ends.entries("resolution, resolved_by, withheld") == [("replayed", "ada", False)]
    loads = ends.raw("select count(*) from ops.loads")
    (again,) = await replay(["shop.t"], "ada")
    assert again.result is None
    assert ends.raw("select count(*) from ops.loads") == loads
    result = await ends.load(ends.table)
    assert (result.counts.changed, result.counts.reconciliation) == (0, "match")
    assert len(ends.entries()) == 1
    assert ends.raw("select to_regclass('landing.shop__t__r'), to_regclass('landing.shop__t__j')") == [(None, None)]
