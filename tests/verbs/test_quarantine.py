"""Rows in quarantine that a person lists, fixes, discards, and loads again."""

from collections.abc import Iterator
from typing import Any

import pytest

from flows.declare import Append, Merge, Overwrite, Replace, Rule, Sequence, Timestamp
from flows.kinds.postgres import Database, Table
from flows.values.settings import settings
from flows.verbs.fix import fix
from flows.verbs.reload import request_reload
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
        "create table t (id int primary key, v int, note text, at timestamptz not null default now());"
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


@pytest.mark.parametrize("name", EVERY)
async def test_a_row_fixed_by_hand_stays_fixed_until_the_source_sends_another_version(
    ends: Shop, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ends.load(EVERY[name])
    ends.declare(EVERY[name], monkeypatch)
    (number,) = ends.ids()

    fixed = await fix(int(number), {"v": "7"}, "ada", "typed with a minus")
    assert fixed.verdict is None
    (done,) = await replay([number], "ada")
    assert done.result is not None
    assert (done.result.counts.rows_inserted, done.result.counts.rows_quarantined) == (1, 0)
    assert ends.entries("resolution, resolved_by, reason, row_data ->> 'v', withheld") == [
        ("fixed by hand", "ada", "typed with a minus", "-1", True)
    ]
    for _ in range(2):
        result = await ends.load(ends.table)  # the source still has the bad version
        assert result.counts.changed == 0
        assert (result.counts.reconciliation, result.counts.quarantine_rows) == ("match", 0)
        assert ends.raw("select v, note from raw_shop.t where id = 11 and _deleted_at is null") == [(7, "bad")]
        assert len(ends.entries()) == 1
        assert (await replay(["shop.t", number], "ada"))[0].result is None

    ends.source("update t set v = 8 where id = 11")
    if isinstance(ends.table.load, Append):
        await request_reload(["shop.t"], "ada")
    result = await ends.load(ends.table)

    assert result.counts.reconciliation == "match"
    assert ends.raw("select v from raw_shop.t where id = 11 and _deleted_at is null") == [(8,)]
    assert ends.same("t", "id, v, note, at")
    assert ends.entries("resolution, withheld") == [("fixed by hand", False)]


@pytest.mark.parametrize("name", EVERY)
async def test_a_new_raw_table_has_the_row_as_it_was_fixed(
    ends: Shop, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ends.load(EVERY[name])
    ends.declare(EVERY[name], monkeypatch)
    (number,) = ends.ids()
    await fix(int(number), {"v": "7"}, "ada", "typed with a minus")
    await replay([number], "ada")

    await request_reload(["shop.t"], "ada", recreate=True)
    result = await ends.load(ends.table)

    assert (result.strategy, result.counts.reconciliation) == ("initial", "match")
    assert (result.counts.rows_inserted, result.counts.rows_quarantined) == (11, 0)
    assert ends.raw("select v from raw_shop.t where id = 11") == [(7,)]
