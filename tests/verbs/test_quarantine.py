"""Rows in quarantine that a person lists, fixes, discards, and loads again."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from flows.declare import Append, Masked, Merge, Overwrite, Replace, Rule, Sequence
from flows.kinds.postgres import Database, Table
from flows.kinds.postgres.compare.repair import repair_keys
from flows.values.errors import MedallionError
from flows.values.settings import settings
from flows.verbs.compare import compare_table
from flows.verbs.fix import fix
from flows.verbs.quarantine import discard_rows
from flows.verbs.reload import request_reload
from flows.verbs.replay import plan_replay, replay
from tests.conftest import TestDatabase
from tests.kinds.everywhere import tables_with
from tests.nightly import chosen
from tests.publish.two_ends import Rows, TwoEnds

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
    return replace(table, rules=(Rule("positive", "v >= -1"),))


@pytest.mark.parametrize("name", chosen(EVERY, "merge", "part"))
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


@pytest.mark.parametrize("name", chosen(EVERY, "merge", "by part"))
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
        aside = int(name == "by part")  # of a partition, raw's row of a key that is quarantined is counted there
        assert (result.counts.reconciliation, result.counts.quarantine_rows) == ("match", aside)
        assert (result.counts.source_rows, result.counts.raw_rows) == (11, 11 - aside)
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


@pytest.mark.parametrize("name", chosen(EVERY, "append", "keyless"))
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


@pytest.mark.parametrize("name", chosen(EVERY, "merge", "replace"))
async def test_a_discarded_row_is_no_new_one_until_it_changes(
    ends: Shop, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ends.load(EVERY[name])
    ends.declare(EVERY[name], monkeypatch)
    (number,) = ends.ids()

    await discard_rows([int(number)], "ada", "a test order")

    assert ends.entries("resolution, resolved_by, reason, row_data ->> 'v'") == [
        ("discarded", "ada", "a test order", "-1")
    ]
    for _ in range(2):
        counts = (await ends.load(ends.table)).counts
        assert (counts.source_rows, counts.raw_rows, counts.quarantine_rows) == (11, 10, 1)
        assert (counts.reconciliation, len(ends.entries())) == ("match", 1)
        assert (await replay(["shop.t"], "ada"))[0].result is None

    ends.source("update t set v = -2 where id = 11")
    if isinstance(ends.table.load, Append):
        await request_reload(["shop.t"], "ada")
    counts = (await ends.load(ends.table)).counts
    assert ends.entries("resolution, row_data ->> 'v'") == [("discarded", "-1"), (None, "-2")]
    assert (counts.reconciliation, counts.raw_rows, counts.quarantine_rows) == ("match", 10, 1)


async def test_a_discarded_row_that_is_named_is_loaded_after_all(ends: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    await ends.load(MERGE)
    ends.declare(loosened(MERGE), monkeypatch)
    (number,) = ends.ids()
    await discard_rows([int(number)], "ada", "a mistake")

    (done,) = await replay([number], "bea")

    assert done.result is not None
    assert done.result.counts.rows_inserted == 1
    assert ends.entries("resolution, resolved_by") == [("replayed", "bea")]


@pytest.mark.parametrize("name", chosen(EVERY, "append", "part"))
async def test_what_breaks_a_rule_still_stays_as_it_is(ends: Shop, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(EVERY[name], rules=(POSITIVE, Rule("small", "v < 100")))
    await ends.load(small)
    ends.declare(small, monkeypatch)
    (number,) = ends.ids()
    before = ends.raw("select r::text from raw_shop.t as r order by 1")

    (done,) = await replay(["shop.t"], "ada")
    assert [(one.verdict, one.rows) for one in done.outcomes] == [("positive", 1)]
    fixed = await fix(int(number), {"v": "100"}, "ada", "another mistake")
    assert fixed.verdict == "small"
    assert [one.verdict for one in (await plan_replay([number]))[0].outcomes] == ["small"]
    (done,) = await replay([number], "ada")

    assert done.result is not None
    counts = done.result.counts
    assert (counts.rows_read, counts.rows_inserted, counts.rows_quarantined) == (1, 0, 1)
    assert ends.raw("select r::text from raw_shop.t as r order by 1") == before
    assert ends.entries("rule, resolution, row_data ->> 'v'") == [("positive", None, "-1")]
    assert ends.raw("select strategy, status from ops.loads where strategy = 'replay'") == [("replay", "published")] * 2
    assert (await ends.load(small)).counts.reconciliation == "match"


async def test_fixes_of_one_row_add_up_and_each_is_kept(ends: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    await ends.load(MERGE)
    ends.declare(MERGE, monkeypatch)
    (number,) = ends.ids()
    await fix(int(number), {"v": "1"}, "ada", "first")
    await fix(int(number), {"note": None}, "bea", "second")
    await replay([number], "ada")
    assert ends.raw("select v, note from raw_shop.t where id = 11") == [(1, None)]

    await fix(int(number), {"v": "2"}, "ada", "it was two")
    (done,) = await replay(["shop.t"], "ada")

    assert done.result is not None
    assert (done.result.counts.rows_updated, done.result.counts.rows_inserted) == (1, 0)
    assert ends.raw("select v, note from raw_shop.t where id = 11") == [(2, None)]
    assert ends.raw("select changed, reason, fixed_by, row_data ->> 'v' from quarantine.fixes order by fix_id") == [
        (["v"], "first", "ada", "1"),
        (["note"], "second", "bea", "1"),
        (["v"], "it was two", "ada", "2"),
    ]
    assert (await ends.load(MERGE)).counts.changed == 0
    assert ends.raw("select v from raw_shop.t where id = 11") == [(2,)]


@pytest.mark.parametrize(
    ("values", "what", "fix_said"),
    [
        ({"w": "1"}, "raw has no column w", "set one of id, v"),
        ({"v": "many"}, "not one of type integer", "--null v"),
        ({"id": "3"}, "belongs to the key", "at the source"),
        ({"id": "99"}, "belongs to the key", "at the source"),
        ({"_batch_id": "1"}, "written by each load", "set one of"),
        ({"at": "noon"}, "timestamp with time zone", "PostgreSQL reads"),
        ({}, "needs a value and a reason", "--set"),
    ],
)
async def test_a_fix_that_cannot_be_is_refused_with_what_is_right(
    ends: Shop, monkeypatch: pytest.MonkeyPatch, values: dict[str, str | None], what: str, fix_said: str
) -> None:
    await ends.load(MERGE)
    ends.declare(MERGE, monkeypatch)
    (number,) = ends.ids()

    with pytest.raises(MedallionError, match=what) as refused:
        await fix(int(number), values, "ada", "a reason")

    assert fix_said in refused.value.fix
    assert not [value for value in values.values() if value == "many" and value in str(refused.value)]
    assert ends.raw("select from quarantine.fixes") == []
    with pytest.raises(MedallionError, match="needs a value and a reason"):
        await fix(int(number), {"v": "1"}, "ada", " ")
    with pytest.raises(MedallionError, match="no row 4711"):
        await fix(4711, {"v": "1"}, "ada", "a reason")
    ends.source("update t set v = 3 where id = 11")
    await ends.load(MERGE)
    with pytest.raises(MedallionError, match="closed: fixed at the source"):
        await fix(int(number), {"v": "1"}, "ada", "a reason")
    with pytest.raises(MedallionError, match="closed already"):
        await discard_rows([int(number)], "ada", "a reason")


async def test_a_row_deleted_at_the_source_leaves_raw_although_it_was_fixed(
    ends: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for table in (MERGE, REPLACE, KEYLESS):
        source = f"shop{table.keys}{type(table.load).__name__}".lower().strip("(',)").replace("(", "").replace(")", "")
        source = "".join(letter for letter in source if letter.isalpha())
        ends.source("delete from t where id = 11; insert into t values (11, -1, 'bad')")
        await ends.load(table, source)
        monkeypatch.setattr("flows.verbs.find.SOURCES", (Database(source, connection="shop", tables=[table]),))
        ((number,),) = ends.raw("select max(quarantine_id) from quarantine.rows")
        await fix(number, {"v": "7"}, "ada", "a reason")
        await replay([str(number)], "ada")
        ends.source("delete from t where id = 11")

        result = await ends.load(table, source)

        assert result.counts.reconciliation == "match"
        assert ends.raw(f"select from raw_{source}.t where id = 11 and _deleted_at is null") == []


async def test_reconcile_knows_a_row_fixed_by_hand_and_a_repair_leaves_it(
    ends: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ends.load(MERGE)
    ends.declare(MERGE, monkeypatch)
    (number,) = ends.ids()
    await fix(int(number), {"v": "7"}, "ada", "a reason")
    await replay([number], "ada")
    source = Database("shop", connection="shop", tables=[MERGE])

    found = await compare_table(ends.warehouse_address, ends.shop_address, source, MERGE, repair=True)

    assert (found.result, found.differences, found.quarantined, found.repaired) == ("match", 0, 1, 0)
    await repair_keys(ends.warehouse_address, ends.shop_address, source, MERGE, [("11",)], source_rows=11)
    assert ends.raw("select v from raw_shop.t where id = 11") == [(7,)]
    ends.raw("update raw_shop.t set v = 0 where id = 5")
    found = await compare_table(ends.warehouse_address, ends.shop_address, source, MERGE, repair=True)
    assert (found.result, found.quarantined, found.repaired) == ("match", 1, 1)


async def test_copies_of_a_key_are_refused_again(ends: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    ends.source("alter table t drop constraint t_pkey; insert into t values (5, 55, 'copy')")
    await ends.load(MERGE)
    ends.declare(MERGE, monkeypatch)

    (done,) = await replay(["shop.t"], "ada", "key_not_unique")

    assert [(one.verdict, one.rows) for one in done.outcomes] == [("key_not_unique", 2)]
    assert ends.raw("select from raw_shop.t where id = 5") == []
    copy = ends.raw("select min(quarantine_id) from quarantine.rows where rule = 'key_not_unique'")[0][0]
    with pytest.raises(MedallionError, match="several rows of the source have its key"):
        await fix(copy, {"v": "1"}, "ada", "a reason")
    assert (await ends.load(MERGE)).counts.reconciliation == "duplicate"


async def test_a_row_without_its_key_is_refused_again(ends: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    ends.source("alter table t drop constraint t_pkey; alter table t alter id drop not null")
    ends.source("insert into t values (null, 1, 'nobody')")
    await ends.load(MERGE)
    ends.declare(MERGE, monkeypatch)
    ((number,),) = ends.raw("select quarantine_id from quarantine.rows where rule = 'key_present'")

    (planned,) = await plan_replay([str(number)])

    assert [one.verdict for one in planned.outcomes] == ["key_present"]
    with pytest.raises(MedallionError, match="belongs to the key"):
        await fix(number, {"id": "77"}, "ada", "a reason")


async def test_a_column_that_raw_lacks_now_keeps_the_row_out(ends: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    await ends.load(MERGE)
    ends.declare(loosened(MERGE), monkeypatch)
    (number,) = ends.ids()
    ends.raw("alter table raw_shop.t drop column note, add column more text[]")

    assert [one.verdict for one in (await plan_replay([number]))[0].outcomes] == ["drift:note"]
    with pytest.raises(MedallionError, match="raw has no column note"):
        await fix(int(number), {"note": "x"}, "ada", "a reason")
    await fix(int(number), {"note": None, "more": "{a,b}"}, "ada", "a reason")
    await replay([number], "ada")

    assert ends.raw("select v, more from raw_shop.t where id = 11") == [(-1, ["a", "b"])]


async def test_a_value_that_raw_would_change_keeps_the_row_out(ends: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """`007` is not 7: a load refuses it, and so does a replay."""
    table = replace(MERGE, on_drift="quarantine", rules=())
    ends.source("update t set v = 1 where id = 11")
    await ends.load(table)
    ends.source("alter table t alter v type text; update t set v = '007' where id = 11")
    await ends.load(table)
    ends.declare(table, monkeypatch)
    (number,) = ends.ids()
    assert ends.entries() == [("11", "drift:v", None)]

    assert [one.verdict for one in (await plan_replay([number]))[0].outcomes] == ["drift:v"]
    await fix(int(number), {"v": "7"}, "ada", "it is a number")
    await replay([number], "ada")

    assert ends.raw("select v from raw_shop.t where id = 11") == [(7,)]
    assert (await ends.load(table)).counts.reconciliation == "match"
    assert ends.raw("select v from raw_shop.t where id = 11") == [(7,)]


async def test_a_fixed_value_of_a_masked_column_is_masked(ends: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    table = replace(MERGE, masked={"note": Masked(keep=2)})
    await ends.load(table)
    ends.declare(table, monkeypatch)
    (number,) = ends.ids()

    await fix(int(number), {"v": "1", "note": "zqperson99"}, "ada", "a reason")
    await replay([number], "ada")

    assert ends.raw("select note from raw_shop.t where id = 11") == [("***99",)]
    assert tables_with(ends.warehouse, "zqperson") == []
    ends.declare(MERGE, monkeypatch)
    with pytest.raises(MedallionError, match="masks were changed"):
        await plan_replay(["shop.t"])
