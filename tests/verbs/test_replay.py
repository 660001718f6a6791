"""Replays of quarantined rows beside loads and each other, killed, of any type and number."""

import asyncio
import signal
import time
from collections.abc import Iterator
from dataclasses import replace as changed

import pytest

from flows.access.addresses import connect
from flows.declare import Append, Merge, Sequence
from flows.kinds.postgres import Database, Table
from flows.state import table_locks
from flows.values.errors import DeclarationError, LoadLocked
from flows.values.settings import settings
from flows.verbs.fix import fix
from flows.verbs.quarantine import discard_rows
from flows.verbs.replay import plan_replay, replay
from tests.conftest import TestDatabase
from tests.kinds.conformance import forking
from tests.kinds.loading import setting
from tests.publish.two_ends import TwoEnds
from tests.verbs.one_replay import LOOSE, SHOP, STRICT

# A process of its own each: those before which nothing is written are the same as a load's.
_VISITED = ("after_load_opened", "after_copy", "in_publish_after_rows", "after_commit")


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoEnds]:
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", warehouse.url("loader"))
    monkeypatch.setattr("flows.verbs.find.SOURCES", (SHOP,))
    settings.cache_clear()
    two = TwoEnds(warehouse, shop)
    two.source("create table t (id int primary key, v int, at timestamptz default now())")
    two.source("insert into t values (1, 1), (2, -1), (3, -1), (4, -9)")
    yield two
    settings.cache_clear()


def rows(ends: TwoEnds) -> list[tuple[int, int]]:
    return [(row[0], row[1]) for row in ends.raw("select id, v from raw_shop.t where _deleted_at is null order by 1")]


async def test_two_replays_at_once_load_each_row_once(ends: TwoEnds) -> None:
    await ends.load(STRICT)

    done = await asyncio.gather(replay(["shop.t"], "ada"), replay(["shop.t"], "bea"))

    assert rows(ends) == [(1, 1), (2, -1), (3, -1)]
    assert sum(one[0].result.counts.rows_inserted for one in done if one[0].result is not None) == 2
    assert ends.raw("select count(*), count(distinct resolved_by) from quarantine.rows where resolved_at is not null")[
        0
    ] == (2, 1)
    assert ends.raw("select distinct status from ops.loads") == [("published",)]


async def test_killed_anywhere_a_replay_heals(ends: TwoEnds) -> None:
    await ends.load(STRICT)
    variables = {"MEDALLION_WAREHOUSE_URL": ends.warehouse.url("loader")}
    for failpoint in _VISITED:
        done = forking.run("tests.verbs.one_replay", ["shop.t"], {**variables, "MEDALLION_FAILPOINT": failpoint})
        assert done.returncode == -signal.SIGKILL, f"{failpoint}: {done.stderr}"
        loaded = failpoint == "after_commit"
        assert rows(ends) == ([(1, 1), (2, -1), (3, -1)] if loaded else [(1, 1)]), failpoint
        closed = ends.raw("select count(*) from quarantine.rows where resolved_at is not null")
        assert closed == [(2 if loaded else 0,)], failpoint

    (again,) = await replay(["shop.t"], "ada")

    assert [one.verdict for one in again.outcomes] == ["positive"]
    assert rows(ends) == [(1, 1), (2, -1), (3, -1)]
    assert ends.raw("select relname from pg_class where relnamespace = 'landing'::regnamespace") == []
    assert (await ends.load(LOOSE)).counts.reconciliation == "match"


async def test_a_replay_waits_for_a_load_and_then_gives_up_with_a_word(ends: TwoEnds) -> None:
    await ends.load(STRICT)
    async with connect(ends.warehouse_address, side="warehouse") as other:
        assert await table_locks.lock_table(other, "shop", "t")
        with setting(lock_wait_seconds=0.3), pytest.raises(LoadLocked):
            await replay(["shop.t"], "ada")
        assert rows(ends) == [(1, 1)]


async def test_what_a_load_has_brought_meanwhile_is_never_overwritten(ends: TwoEnds) -> None:
    await ends.load(STRICT)
    ((number,),) = ends.raw("select quarantine_id from quarantine.rows where row_key ->> 'id' = '2'")
    await fix(number, {"v": "5"}, "ada", "a guess")
    ends.source("update t set v = 7 where id = 2")
    await ends.load(STRICT)  # the entry is closed: the source itself was right after all

    (done,) = await replay([str(number), "shop.t"], "ada")

    assert dict(rows(ends))[2] == 7
    assert all(one.rule == "positive" for one in done.outcomes)
    assert ends.raw(f"select resolution from quarantine.rows where quarantine_id = {number}") == [
        ("fixed at the source",)
    ]


async def test_a_newer_row_of_raw_stays_and_the_older_one_is_closed(ends: TwoEnds) -> None:
    """By whatever way it came there: here, by hand."""
    await ends.load(STRICT)
    ends.raw(
        "insert into raw_shop.t select 2, 7, now(), clock_timestamp(), 'shop', 1 union all "
        "select 3, 7, now(), '2020-01-01', 'shop', 1"
    )

    (done,) = await replay(["shop.t"], "ada")

    assert sorted((one.verdict or "", one.rows) for one in done.outcomes) == [("", 1), ("newer", 1), ("positive", 1)]
    assert rows(ends) == [(1, 1), (2, 7), (3, -1)]
    assert ends.raw("select row_key ->> 'id', resolution from quarantine.rows order by 1") == [
        ("2", "superseded"),
        ("3", "replayed"),
        ("4", None),
    ]


async def test_a_row_of_any_type_is_the_same_after_it(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    ends.source("create type mood as enum ('glad', 'sad')")
    ends.source(
        """create table odd (id int primary key, v int, n numeric, p numeric(12,3), f float8, r real, b bytea, d date,
        ts timestamp, tz timestamptz, tm time, iv interval, j json, jb jsonb, u uuid, ip inet, ia int[], ta text[][],
        ja json[], rg int4range, c char(5), vc varchar(9), bt bit(3), bo boolean, m mood, ma mood[], t text,
        "Odd ""name"" %s $1" text)"""
    )
    values = (
        "-1, 1.50, 12.300, 0.1, 0.1, '\\x00ff', '0044-03-15 BC', 'infinity', '2024-02-29 23:59:59.123456+05:30', "
        '\'24:00\', \'1 mon -3 days 04:05:06.7\', \'{"a":  1.0, "a": 2, "u": "\\u0000"}\', \'{"k": [1.0, null]}\', '
        "gen_random_uuid(), '10.0.0.1/8', '{1,null,3}', '{{a,\"b c\"},{NULL,\"null\"}}', "
        "array['{\"x\": 1}', null]::json[], '[1,5)', 'ab', 'x', '101', true, 'sad', '{glad,sad}', "
        "E'a\\nb\\t\\\\ \"q\" é😀', 'odd'"
    )
    ends.source(f"insert into odd select 1, {values}; insert into odd select 2, {values}".replace("%", "%%"))
    ends.source("update odd set n = 'NaN', f = '-Infinity', r = 'NaN', d = 'infinity', tz = '-infinity' where id = 2")
    ends.source("insert into odd (id, v) values (3, -1)")
    table = Table("odd", key="id", load=Merge(), rules=STRICT.rules, max_quarantined=1)
    await ends.load(table)
    assert ends.raw("select count(*) from quarantine.rows") == [(3,)]
    loose = Database("shop", connection="shop", tables=[changed(table, rules=LOOSE.rules)])
    monkeypatch.setattr("flows.verbs.find.SOURCES", (loose,))

    (done,) = await replay(["shop.odd"], "ada")

    assert [(one.verdict, one.rows) for one in done.outcomes] == [(None, 3)]
    names = ends.source(
        "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute "
        "where attrelid = 'odd'::regclass and attnum > 0"
    )[0][0]
    assert ends.same("odd", str(names))
    result = await ends.load(loose.tables[0])
    assert (result.counts.changed, result.counts.reconciliation) == (0, "match")


async def test_thousands_of_rows_are_refused_in_seconds(ends: TwoEnds) -> None:
    """By the square of their number, 8,000 took 17 s."""
    ends.source("insert into t select g, -1 from generate_series(10, 8009) as g")
    began = time.monotonic()
    await ends.load(STRICT)
    assert time.monotonic() - began < 8


async def test_no_alert_stays_when_the_last_row_was_loaded_or_discarded(ends: TwoEnds) -> None:
    await ends.load(STRICT)
    firing = "select name from ops.alerts where resolved_at is null"

    await replay(["shop.t"], "ada")
    assert ends.raw(firing) == [("rows quarantined",)]  # one row still breaks the rule
    ((number,),) = ends.raw("select quarantine_id from quarantine.rows where resolved_at is null")
    await discard_rows([number], "ada", "a test order")
    assert ends.raw(firing) == []
    await ends.load(LOOSE)
    assert ends.raw(firing) == []


@pytest.mark.parametrize("number", ["9223372036854775808", "1" + "0" * 30])
async def test_an_id_that_none_can_have_is_told_as_any_other(ends: TwoEnds, number: str) -> None:
    with pytest.raises(DeclarationError, match="quarantine has no row"):
        await replay([number], "ada")


async def test_thousands_of_rows_are_loaded_at_once(ends: TwoEnds) -> None:
    ends.source("insert into t select i, -1 from generate_series(10, 5009) as i")
    await ends.load(STRICT)

    (planned,) = await plan_replay(["shop.t"])
    (done,) = await replay(["shop.t"], "ada")

    assert [(one.verdict, one.rows) for one in planned.outcomes] == [(None, 5_002), ("positive", 1)]
    assert done.result is not None
    assert (done.result.counts.rows_inserted, done.result.counts.rows_quarantined) == (5_002, 1)


async def test_a_row_of_a_thousand_columns_is_loaded(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = ", ".join(f"c{number} int default {number}" for number in range(1000))
    ends.source(f"create table wide (id int primary key, v int, {columns}); insert into wide values (1, -1)")
    table = Table("wide", key="id", load=Merge(), rules=STRICT.rules, max_quarantined=1)
    await ends.load(table)
    loose = Database("shop", connection="shop", tables=[changed(table, rules=LOOSE.rules)])
    monkeypatch.setattr("flows.verbs.find.SOURCES", (loose,))

    await replay(["shop.wide"], "ada")

    assert ends.same("wide", "id, v, c0, c999")


async def test_equal_rows_without_a_key_are_each_loaded(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    ends.source("create table log (n int generated always as identity, v int); insert into log (v) values (-1), (1)")
    ends.source("create view entries as select n, v from log union all select n, v from log")
    table = Table("log", load=Append(), cursor=Sequence("n"), rules=STRICT.rules, max_quarantined=1)
    ends.source("alter table log alter n drop identity; insert into log values (1, -1)")
    await ends.load(table)
    loose = Database("shop", connection="shop", tables=[changed(table, rules=LOOSE.rules)])
    monkeypatch.setattr("flows.verbs.find.SOURCES", (loose,))

    await replay(["shop.log"], "ada")

    assert ends.same("log", "n, v")


async def test_unreadable_text_is_loaded_once_it_was_fixed(ends: TwoEnds) -> None:
    """As of a database that checks no text: the row's values are texts, and one of them is no UTF-8."""
    await ends.load(STRICT)
    ends.raw(
        "insert into quarantine.rows (batch_id, source_system, table_name, row_key, rule, row_data, row_hash) values "
        """(1, 'shop', 't', '{"id": 9}', 'text_is_not_utf8', """
        """jsonb_build_object('text', '{"id": "9", "v": "\\\\xff", "at": "2024-01-01 00:00:00+00"}'), 'x')"""
    )
    ((number,),) = ends.raw("select quarantine_id from quarantine.rows where rule = 'text_is_not_utf8'")
    assert [one.verdict for one in (await plan_replay([str(number)]))[0].outcomes] == ["text_is_not_utf8"]

    assert (await fix(number, {"v": "4"}, "ada", "a damaged byte")).verdict is None
    await replay([str(number)], "ada")

    assert ends.raw("select v, at::text from raw_shop.t where id = 9") == [(4, "2024-01-01 00:00:00+00")]


async def test_of_a_table_that_was_never_loaded_it_says_so(ends: TwoEnds) -> None:
    with pytest.raises(DeclarationError, match="raw has no such table"):
        await plan_replay(["shop.t"])
    with pytest.raises(DeclarationError, match="no row 4711"):
        await replay(["4711"], "ada")
