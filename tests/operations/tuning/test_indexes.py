"""An index is recommended if the planner scans a large table for few rows, and dropped if it makes no difference."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from flows.access.addresses import connect
from flows.declare import Merge, Overwrite, Timestamp
from flows.kinds.postgres import Table
from flows.operations.checks.check import Round
from flows.operations.checks.registry import checks
from flows.operations.tuning.applying import revert
from flows.operations.tuning.evaluating import notice_source_indexes
from flows.values.connection import DatabaseConnection
from tests.eventually import eventually
from tests.operations.tuning.tuned import HOUR, ROWS, YESTERDAY, Tuned
from tests.sessions import run_alone

FOLLOWED = Table("tickets", key="id", load=Merge(), cursor=Timestamp("updated_at"))
BY_DAY = Table("tickets", key="id", load=Overwrite(by="sold_on", every="day"))
TODAY = "update tickets set sold_on = current_date, note = note || '.' where id % 400 = {n} % 400"
MOVES = "update tickets set note = note || '.', updated_at = clock_timestamp() where id % 400 = {n}"


def scanned_rows(ends: Tuned, *, at_source: bool) -> int:
    """Rows that scans of the table have read so far, once the sessions that loaded it have reported."""
    place, schema = (ends.source, "public") if at_source else (ends.raw, "raw_shop")
    word = "application_name like 'medallion%'"
    eventually(
        lambda: place(f"select count(*) = 0 from pg_stat_activity where datname = current_database() and {word}")[0][0]
    )
    return int(
        place(f"select seq_tup_read from pg_stat_user_tables where relname = 'tickets' and schemaname = '{schema}'")[0][
            0
        ]
    )


async def one_load(ends: Tuned, table: Table, change: str, *, at_source: bool) -> int:
    """A load after a change; how many rows its scans have read."""
    before = scanned_rows(ends, at_source=at_source)
    await ends.loads(table, 1, change)
    return scanned_rows(ends, at_source=at_source) - before


async def test_an_index_for_the_cursor_is_recommended_and_with_it_a_load_scans_the_source_once_less(
    ends: Tuned,
) -> None:
    ends = replace(ends, keeps=False)
    await ends.followed(FOLLOWED, MOVES)
    ends.ledger("tickets", 2, ending=YESTERDAY)
    ends.source("analyze tickets")
    before = await one_load(ends, FOLLOWED, MOVES, at_source=True)
    found = (await ends.recommended(FOLLOWED))["source-index"]
    assert found.change == 'create index concurrently "tickets_updated_at_tuned" on "public"."tickets" ("updated_at")'
    assert f"scans {ROWS:,} rows" in found.basis

    assert (await ends.apply(found, owner="app")).applied

    assert before - await one_load(ends, FOLLOWED, MOVES, at_source=True) >= ROWS
    assert "source-index" not in await ends.recommended(FOLLOWED)
    assert [each.state for each in await ends.evaluated()] == ["learning"]


async def test_without_the_owners_connection_nothing_happens_at_the_source(ends: Tuned) -> None:
    await ends.followed(FOLLOWED, MOVES)
    found = (await ends.recommended(FOLLOWED))["source-index"]
    applied = await ends.apply(found)
    assert (applied.applied, "owner" in applied.note) == (False, True)
    assert ends.source("select count(*) from pg_indexes where tablename = 'tickets'") == [(1,)]


async def test_what_the_owner_did_is_noticed_and_dropped_only_with_the_owners_connection(ends: Tuned) -> None:
    await ends.followed(FOLLOWED, MOVES)
    found = (await ends.recommended(FOLLOWED))["source-index"]
    await ends.apply(found)
    for state in ("accepted", "learning"):
        async with connect(ends.warehouse_address, side="warehouse") as connection:
            await notice_source_indexes(connection, [ends.declared(FOLLOWED)])
        (tuning,) = await ends.evaluated()
        assert tuning.state == state
        if state == "accepted":
            run_alone(ends.shop.url("app"), found.change)
    async with connect(ends.warehouse_address, side="warehouse") as connection:
        owner = DatabaseConnection("shop", ends.shop.url("app"))
        assert await revert(connection, tuning, "night-shift", "slow writes", owner) == ""
    assert ends.source("select count(*) from pg_indexes where tablename = 'tickets'") == [(1,)]
    assert "source-index" in await ends.recommended(FOLLOWED), "it may be recommended again"


@pytest.mark.parametrize(
    "otherwise",
    ["create index on tickets (updated_at, id)", "delete from tickets where id > 9000; analyze tickets",
     pytest.param("update tickets set updated_at = clock_timestamp() where id <= 6000; analyze tickets",
                  marks=pytest.mark.long)],
)  # fmt: skip
async def test_no_index_is_recommended_if_there_is_one_or_the_table_is_small_or_most_rows_are_read(
    ends: Tuned, otherwise: str
) -> None:
    await ends.followed(FOLLOWED, MOVES)
    ends.source(otherwise)
    assert "source-index" not in await ends.recommended(FOLLOWED)


async def test_an_index_of_raw_on_the_partition_column_is_made_and_a_load_scans_raw_less(ends: Tuned) -> None:
    ends = replace(ends, keeps=False)
    await ends.followed(BY_DAY, TODAY)
    ends.raw("analyze raw_shop.tickets")
    before = await one_load(ends, BY_DAY, TODAY, at_source=False)
    found = (await ends.recommended(BY_DAY))["warehouse-index"]
    applied = await ends.apply(found)
    assert applied.applied, applied.note
    (tuning,) = await ends.evaluated()
    assert tuning.after is not None
    assert tuning.after["pages"] < tuning.before["pages"] / 2
    after = await one_load(ends, BY_DAY, TODAY, at_source=False)
    assert before >= 2 * ROWS
    assert after < ROWS
    assert "warehouse-index" not in await ends.recommended(BY_DAY)


async def test_the_watch_drops_an_index_in_raw_if_loads_take_longer_and_keeps_one_that_finds_rows_sooner(
    ends: Tuned,
) -> None:
    await ends.followed(BY_DAY, TODAY)
    ends.raw("analyze raw_shop.tickets")
    ends.raw("update ops.loads set finished_at = started_at + interval '60 s'")
    (look,) = [each.look for each in checks() if each.name == "tuning"]
    for seconds, left in ((60, 1), (90, 0)):
        assert (await ends.apply((await ends.recommended(BY_DAY))["warehouse-index"])).applied
        ends.raw("update ops.tunings set applied_at = now() - interval '10 hours' where reverted_at is null")
        ends.ledger("tickets", 9, strategy="overwrite", seconds=seconds, ending=datetime.now(UTC) - HOUR / 2)
        async with connect(ends.warehouse_address, side="warehouse") as connection:
            assert await look(Round(datetime.now(UTC), 0.0, connection)) == []
        assert ends.raw("select count(*) from pg_indexes where indexname like '%tuned'") == [(left,)]
        assert ends.raw("select verdict from ops.tunings") == [("helped" if left else "worse",)]
        ends.raw("delete from ops.tunings; drop index if exists raw_shop.tickets_sold_on_tuned")
        ends.raw(
            "delete from ops.loads where batch_id in (select batch_id from ops.loads order by batch_id desc limit 9)"
        )


async def test_an_index_that_the_planner_does_not_use_is_dropped_at_once_unless_it_is_kept(ends: Tuned) -> None:
    await ends.followed(BY_DAY, TODAY)
    ends.raw("analyze raw_shop.tickets")
    found = (await ends.recommended(BY_DAY))["warehouse-index"]
    useless = replace(found, change=found.change.replace('("sold_on")', '("note")'))
    applied = await ends.apply(useless)
    assert (applied.applied, applied.note.startswith("taken back")) == (False, True)
    indexes = "select count(*) from pg_indexes where indexname like '%tuned'"
    assert ends.raw(indexes) == [(0,)]
    assert (await ends.apply(useless, keep=True)).applied
    assert ends.raw(indexes) == [(1,)]
    assert [(each.state, each.reverted_by) for each in await ends.evaluated()] == [
        ("learning", None), ("reverted", "automatically")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "otherwise",
    [
        "create index on raw_shop.tickets (sold_on)",
        pytest.param("update raw_shop.tickets set sold_on = current_date", marks=pytest.mark.long),
    ],
)
async def test_raw_needs_no_index_if_it_has_one_or_most_rows_are_of_the_partitions(ends: Tuned, otherwise: str) -> None:
    await ends.followed(BY_DAY, TODAY)
    ends.raw(otherwise)
    ends.raw("analyze raw_shop.tickets")
    assert "warehouse-index" not in await ends.recommended(BY_DAY)
