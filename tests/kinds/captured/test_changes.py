"""What happens at a source with triggers, and what raw has after the next load."""

import signal
from typing import Any

import psycopg
import pytest

from flows.declare import Triggers
from flows.failures.failpoints import FAILPOINTS
from flows.kinds.postgres.compare import both_ends, compare
from flows.kinds.postgres.compare.narrow import narrow
from flows.kinds.postgres.trust import trusted_window
from flows.values.errors import ConfigurationError
from tests.kinds.captured.captured_ends import CapturedEnds
from tests.kinds.conformance import forking

OF_OTHERS = {"in_chunk_before_commit", "after_slice_commit", "after_chunk_commit"}


@pytest.mark.parametrize("per", ["statement", "row"])
async def test_every_kind_of_change_arrives_and_is_deleted_at_the_source(ends: CapturedEnds, per: str) -> None:
    ends.triggers = Triggers(per=per)  # type: ignore[arg-type]
    await ends.create("id bigint primary key, name text")
    ends.source("insert into items select n, 'item ' || n from generate_series(1, 20) as n")
    assert (await ends.load()).strategy == "initial"
    assert ends.waiting() == []

    ends.source("update items set name = upper(name) where id <= 3")
    ends.source("update items set id = 100 where id = 4")
    ends.source("delete from items where id in (5, 6)")
    ends.source("insert into items values (7, 'again') on conflict (id) do update set name = excluded.name")
    ends.source("begin; savepoint s; delete from items; rollback to s; insert into items values (21, 'kept'); commit")
    ends.source("begin; insert into items values (22, 'never'); rollback")
    recorded = ends.waiting()
    result = await ends.load()

    assert [row for row in recorded if row[1] in (4, 100)] == [("D", 4), ("I", 100)] or per == "statement"
    assert {row for row in recorded if row[1] in (4, 100)} == {("D", 4), ("I", 100)}
    assert result.strategy == "merge"
    assert (result.counts.rows_read, result.counts.rows_deleted) == (6, 3)
    assert result.counts.reconciliation == "match"
    assert ends.same()
    assert ends.waiting() == []
    assert {row[0] for row in ends.raw("select id from raw_shop.items where _deleted_at is not null")} == {4, 5, 6}
    assert (await ends.load()).counts.rows_read == 0


async def test_deletes_alone_arrive_without_reading_a_row(ends: CapturedEnds) -> None:
    await ends.create("id bigint primary key, name text")
    ends.source("insert into items select n, 'x' from generate_series(1, 5) as n")
    await ends.load()
    ends.source("delete from items where id > 2")

    counts = (await ends.load()).counts

    assert (counts.rows_read, counts.rows_deleted, counts.reconciliation) == (0, 3, "match")


async def test_a_truncate_marks_all_rows_but_those_that_followed(ends: CapturedEnds) -> None:
    await ends.create("id bigint primary key, name text")
    ends.source("insert into items select n, 'x' from generate_series(1, 200) as n")
    await ends.load()
    ends.source("truncate items")
    ends.source("insert into items values (3, 'new'), (300, 'new')")

    result = await ends.load()

    assert (result.strategy, result.counts.rows_deleted) == ("merge", 199)
    assert ends.live("id") == [(3,), (300,)]
    assert ends.same()


async def test_a_key_of_several_columns_and_types(ends: CapturedEnds) -> None:
    await ends.create(
        'a numeric(8, 2), "B c" text collate "C", d date, v text, primary key (a, "B c", d)', key=("a", "B c", "d")
    )
    ends.source("insert into items values (1.50, 'x', '2020-01-01', 'one'), (2, 'y', '2020-01-02', 'two')")
    await ends.load()
    ends.source("update items set v = 'changed' where a = 1.5")
    ends.source("update items set d = '2021-01-01' where a = 2")
    await ends.load()
    assert ends.same()
    assert len(ends.raw("select 1 from raw_shop.items where _deleted_at is not null")) == 1


async def test_partitions_are_written_directly(ends: CapturedEnds) -> None:
    await ends.create("id bigint primary key, name text", more="partition by range (id)")
    ends.source("create table low partition of items for values from (0) to (100)")
    ends.source("create table high partition of items for values from (100) to (200)")
    ends.source("insert into items values (1, 'a'), (101, 'b')")
    await ends.load()
    ends.source("update low set name = 'A'")
    ends.source("insert into high values (102, 'c')")
    ends.source("update items set id = 103 where id = 1")
    assert (await ends.load()).strategy == "merge"
    assert ends.same()


async def test_rows_written_as_a_replica_are_recorded(ends: CapturedEnds) -> None:
    await ends.create("id bigint primary key, name text")
    ends.source("insert into items values (1, 'a')")
    await ends.load()
    ends.admin("begin; set local session_replication_role = replica; update items set name = 'b'; commit")
    await ends.load()
    assert ends.same()


async def test_what_a_cascade_deletes_is_recorded(ends: CapturedEnds) -> None:
    ends.source("create table parents (id bigint primary key)")
    await ends.create("id bigint primary key, parent bigint references parents on delete cascade")
    ends.source("insert into parents values (1), (2)")
    ends.source("insert into items values (10, 1), (11, 1), (20, 2)")
    await ends.load()
    ends.source("delete from parents where id = 1")
    assert (await ends.load()).counts.rows_deleted == 2


async def test_keys_that_triggers_did_not_see_are_noticed_by_the_next_load(ends: CapturedEnds) -> None:
    """A partition that is truncated alone fires no trigger; the keys of both ends are compared with each load."""
    await ends.create("id bigint primary key, name text", more="partition by range (id)")
    ends.source("create table low partition of items for values from (0) to (1000)")
    ends.source("create table high partition of items for values from (1000) to (2000)")
    ends.source("insert into items select n, 'x' from generate_series(950, 1005) as n")
    await ends.load()
    ends.source("truncate high")
    result = await ends.load()
    assert (result.counts.rows_deleted, result.counts.reconciliation) == (6, "match")
    assert ends.same()


async def test_killed_anywhere_nothing_is_lost_or_doubled(ends: CapturedEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    await ends.create("id bigint primary key, name text")
    ends.source("insert into items select n, 'x' from generate_series(1, 50) as n")
    await ends.load()
    variables = {
        "MEDALLION_SOURCE_SHOP_URL": ends.shop.url("extractor"),
        "MEDALLION_WAREHOUSE_URL": ends.warehouse.url("loader"),
    }
    for number, failpoint in enumerate(sorted(set(FAILPOINTS) - OF_OTHERS)):
        ends.source(f"insert into items values ({100 + number}, '{failpoint}')")
        ends.source(f"delete from items where id = {number + 1}")
        ends.source(f"update items set name = '{failpoint}' where id = 40")
        done = forking.run(
            "tests.kinds.conformance.one_load",
            ["tests.kinds.captured.killable"],
            {**variables, "MEDALLION_FAILPOINT": failpoint},
        )
        assert done.returncode == -signal.SIGKILL, failpoint
        assert len(ends.waiting()) == 3, "what is committed at most is deleted at the source"
        counts = (await ends.load()).counts
        assert (counts.reconciliation, counts.rows_deduplicated) == ("match", 0)
        assert ends.waiting() == []
        assert ends.same()


async def test_a_full_load_that_is_killed_leaves_what_was_recorded(ends: CapturedEnds) -> None:
    await ends.create("id bigint primary key, name text")
    ends.source("insert into items select n, 'x' from generate_series(1, 50) as n")
    done = forking.run(
        "tests.kinds.conformance.one_load",
        ["tests.kinds.captured.killable"],
        {
            "MEDALLION_SOURCE_SHOP_URL": ends.shop.url("extractor"),
            "MEDALLION_WAREHOUSE_URL": ends.warehouse.url("loader"),
            "MEDALLION_FAILPOINT": "after_commit",
        },
    )
    assert done.returncode == -signal.SIGKILL
    assert len(ends.waiting()) == 50
    ends.source("delete from items where id = 9")
    await ends.load()
    assert (ends.same(), ends.waiting()) == (True, [])


async def test_columns_that_come_and_go(ends: CapturedEnds) -> None:
    await ends.create("id bigint primary key, name text, old int")
    ends.source("insert into items values (1, 'a', 1), (2, 'b', 2)")
    await ends.load()
    ends.source("alter table items add column later text")
    ends.source("update items set later = 'x' where id = 1")
    assert (await ends.load()).strategy == "merge"
    assert ends.same()
    ends.source("alter table items add column filled text default 'y'")
    assert (await ends.load()).strategy == "reload"
    assert ends.same()
    ends.source("alter table items drop column old")
    ends.source("update items set name = 'c' where id = 2")
    await ends.load()
    assert ends.same()
    ends.redeclare(on_drift="freeze")
    ends.source("alter table items add column more text")
    with pytest.raises(Exception, match="more"):
        await ends.load()


async def test_a_comparison_takes_recorded_keys_for_pending(ends: CapturedEnds) -> None:
    await ends.create("id bigint primary key, name text")
    ends.source("insert into items select n, 'x' from generate_series(1, 50) as n")
    await ends.load()
    ends.source("update items set name = 'y' where id = 1")
    ends.source("delete from items where id = 2")
    found = await ends.compare()
    assert (found.differences, found.pending) == (0, 2)
    ends.raw("update raw_shop.items set name = 'wrong' where id = 30")
    found = await ends.compare()
    assert (found.different, found.pending) == (1, 2)


async def test_a_load_during_a_comparison_leaves_its_keys_pending(
    ends: CapturedEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raw was read before it, and the change table is emptied when differences are looked up there."""
    await ends.create("id bigint primary key, name text")
    ends.source("insert into items select n, 'x' from generate_series(1, 50) as n")
    await ends.load()
    ends.source("update items set name = 'y' where id = 1")
    honest = narrow

    async def after_a_load(*given: Any) -> Any:
        await ends.load()
        return await honest(*given)

    monkeypatch.setattr(compare, "narrow", after_a_load)
    found = await ends.compare()
    assert (found.result, found.pending) == ("match", 1)
    assert ends.same()


async def test_a_load_between_both_snapshots_of_a_comparison_is_known_by_its_token(
    ends: CapturedEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ends.create("id bigint primary key, name text")
    ends.source("insert into items select n, 'x' from generate_series(1, 50) as n")
    await ends.load()
    honest = trusted_window

    async def after_a_change_and_its_load(*given: Any) -> Any:
        ends.source("update items set name = 'y' where id = 1")
        await ends.load()
        return await honest(*given)

    monkeypatch.setattr(both_ends, "trusted_window", after_a_change_and_its_load)
    found = await ends.compare()
    assert (found.result, found.pending) == ("match", 1)


async def test_an_application_needs_no_right_to_the_change_table(ends: CapturedEnds) -> None:
    await ends.create("id bigint primary key, name text")
    ends.source("insert into items values (1, 'a')")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ends.source("select 1 from medallion_captured.shop__items")
    assert ends.waiting() == [("I", 1)]


async def test_without_triggers_nothing_is_loaded(ends: CapturedEnds) -> None:
    await ends.create("id bigint primary key, name text")
    await ends.drop()
    with pytest.raises(ConfigurationError, match="medallion capture setup shop") as refused:
        await ends.load()
    assert not refused.value.retryable
