"""Late tables and models are told, by four clocks, and nothing else is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from flows.access.addresses import connect
from flows.declare import Calendar, Deadline, Freshness, Replace
from flows.kinds.postgres import Database, Table
from flows.operations.checks.freshness import NAME, late
from flows.operations.freshness import Clocks
from tests.conftest import TestDatabase
from tests.kinds.loading import at
from tests.operations.alerting import desk
from tests.operations.ledger import HOUR, MONDAY, Ledger, source, table
from tests.publish.two_ends import TwoEnds

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


@pytest.fixture
async def ledger(warehouse: TestDatabase) -> AsyncIterator[Ledger]:
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        yield Ledger(connection)


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    return TwoEnds(warehouse, shop)


# -- the last load


async def test_a_late_table_is_told_and_one_with_an_empty_load_is_not(ledger: Ledger) -> None:
    ledger.declare(source(table("baskets"), table("stores"), freshness=Freshness(loaded_within="2 h")))
    for name in ("baskets", "stores"):
        await ledger.load(MONDAY - 3 * HOUR, name, rows=5)
    await ledger.load(MONDAY - HOUR, "stores", rows=0)

    (told,) = await ledger.late()

    assert (told.name, told.subject, told.severity) == ("late", "shop.baskets", "warning")
    assert (told.source, told.table) == ("shop", "baskets")
    assert told.what == "not loaded since 2026-06-14 21:00 UTC, promised within 2 h"
    assert "medallion run shop.baskets" in told.fix


async def test_lateness_is_a_warning_and_at_twice_the_promise_an_error(ledger: Ledger) -> None:
    ledger.declare(source(table(freshness=Freshness(loaded_within="2 h"))))
    await ledger.load(MONDAY)
    severities = [await ledger.told(MONDAY + minutes * HOUR / 60) for minutes in (119, 121, 239, 241)]
    assert [[each[2] for each in told] for told in severities] == [[], ["warning"], ["warning"], ["error"]]


async def test_a_tables_own_promise_replaces_its_sources(ledger: Ledger) -> None:
    own = table("stores", freshness=Freshness(loaded_within="1 day"))
    ledger.declare(source(table(), own, freshness=Freshness(loaded_within="2 h")))
    for name in ("baskets", "stores"):
        await ledger.load(MONDAY - 3 * HOUR, name)
    assert [each[1] for each in await ledger.told()] == ["shop.baskets"]


async def test_without_a_declaration_the_schedule_promises_as_it_does_to_dbt(ledger: Ledger) -> None:
    ledger.declare(source(table(), schedule="15 * * * *"))
    await ledger.load(MONDAY)
    assert await ledger.told(MONDAY + 35 * HOUR) == []
    assert await ledger.told(MONDAY + 37 * HOUR) == [("late", "shop.baskets", "warning")]
    ledger.declare(source(table()))
    assert await ledger.told(MONDAY + 1000 * HOUR) == []


async def test_time_in_which_no_run_is_scheduled_does_not_count(ledger: Ledger) -> None:
    """Loaded on Friday evening, the next run is due on Monday morning: nobody is told all weekend."""
    ledger.declare(source(table(freshness=Freshness(loaded_within="2 h")), schedule="0 6-18 * * 1-5"))
    friday = MONDAY - 54 * HOUR  # 18:00
    await ledger.load(friday + HOUR / 6)
    states = [await ledger.told(friday + hours * HOUR) for hours in (1, 3, 30, 60, 61.9, 62.1, 64.1)]
    assert [[each[2] for each in told] for told in states] == [[], [], [], [], [], ["warning"], ["error"]]
    # In the day, runs are due all the time.
    await ledger.load(MONDAY + 9 * HOUR)
    assert await ledger.told(MONDAY + 10.9 * HOUR) == []
    assert len(await ledger.late(MONDAY + 11.1 * HOUR)) == 1
    # The control: without a schedule, nothing says when a load is due.
    ledger.declare(source(table(freshness=Freshness(loaded_within="2 h"))))
    await ledger.load(MONDAY + 18 * HOUR)
    assert len(await ledger.late(MONDAY + 21 * HOUR)) == 1


@pytest.mark.parametrize("strategy", ["repair", "backfill", "limited", "replay"])
async def test_a_load_of_a_part_makes_no_table_fresh(ledger: Ledger, strategy: str) -> None:
    ledger.declare(source(table(freshness=Freshness(loaded_within="2 h"))))
    await ledger.load(MONDAY - 3 * HOUR)
    await ledger.load(MONDAY - HOUR, strategy=strategy, rows=3)
    assert len(await ledger.late()) == 1
    await ledger.load(MONDAY - HOUR, strategy="merge")
    assert await ledger.late() == []


@pytest.mark.parametrize("status", ["failed", "refused", "running", "rescheduled"])
async def test_a_load_that_did_not_publish_makes_no_table_fresh(ledger: Ledger, status: str) -> None:
    ledger.declare(source(table(freshness=Freshness(loaded_within="2 h"))))
    await ledger.load(MONDAY - 3 * HOUR)
    await ledger.load(MONDAY - HOUR, status=status)
    assert len(await ledger.late()) == 1


# -- nothing is expected of these


async def test_of_a_table_that_nothing_has_tried_to_load_nothing_is_expected(ledger: Ledger) -> None:
    due = Deadline("0 7 * * *")
    ledger.declare(source(table(freshness=Freshness(loaded_within="2 h", expected_by=due, event_within="1 h"))))
    assert await ledger.told(MONDAY + 9 * HOUR) == []

    await ledger.load(MONDAY, status="failed")
    assert await ledger.told(MONDAY + HOUR) == []
    told = await ledger.late(MONDAY + 9 * HOUR)
    assert {one.name for one in told} == {"late", "deadline missed"}
    assert "never loaded; expected since 2026-06-14 23:59 UTC" in told[0].what
    assert told[1].what.endswith("there was none yet")


async def test_a_table_that_is_left_out_while_others_are_loaded_is_told(ledger: Ledger) -> None:
    """Declared, and the worker has an older version: nothing tries to load it."""
    ledger.declare(source(table(), table("stores"), freshness=Freshness(loaded_within="2 h")))
    assert await ledger.told() == []
    assert await ledger.told(MONDAY + 9 * HOUR) == []
    for hours in (10, 11, 12, 13):
        await ledger.load(MONDAY + hours * HOUR)
    assert await ledger.told(MONDAY + 11 * HOUR) == []
    assert await ledger.told(MONDAY + 12.9 * HOUR) == []
    assert await ledger.told(MONDAY + 13.1 * HOUR) == [("late", "shop.stores", "warning")]


async def test_a_table_added_after_a_deadline_has_not_missed_it(ledger: Ledger) -> None:
    ledger.declare(source(table(freshness=Freshness(expected_by=Deadline("0 7 * * *")))))
    await ledger.load(MONDAY + 8 * HOUR, status="failed")
    assert await ledger.told(MONDAY + 20 * HOUR) == []
    assert len(await ledger.told(MONDAY + 32 * HOUR)) == 1


async def test_a_table_that_is_not_declared_any_more_is_not_told(ledger: Ledger) -> None:
    ledger.declare(source(table("stores", freshness=Freshness(loaded_within="2 h"))))
    await ledger.load(MONDAY - 100 * HOUR, "baskets")
    assert await ledger.told() == []


async def test_a_source_whose_schedule_is_paused_is_not_told(ledger: Ledger) -> None:
    promise = Freshness(loaded_within="2 h")
    on_demand = Database("files", connection="files", tables=[table()], freshness=promise)
    ledger.declare(source(table(), freshness=promise, schedule="0 * * * *"), on_demand)
    await ledger.load(MONDAY - 3 * HOUR)
    await ledger.load(MONDAY - 3 * HOUR, source="files")
    await ledger.build(MONDAY - 3 * HOUR, models={"daily": {"built_within": "2 h"}})
    assert [one.subject for one in await ledger.late()] == ["shop.baskets", "files.baskets", "gold.daily"]
    assert len(await ledger.late(active=["shop"])) == 3
    crm = Database("crm", connection="crm", tables=[table()], schedule="0 * * * *")
    ledger.declare(*ledger.clocks.sources, crm)
    assert [one.subject for one in await ledger.late(active=["crm"])] == ["files.baskets", "gold.daily"]
    # An environment in which nothing starts automatically.
    assert await ledger.late(active=[]) == []


# -- gold


async def test_rows_that_gold_was_not_built_from_are_told(ledger: Ledger) -> None:
    ledger.declare(source(table(freshness=Freshness(built_within="3 h"))))
    await ledger.load(MONDAY - 10 * HOUR, rows=1)
    await ledger.build(MONDAY - 9 * HOUR)
    await ledger.load(MONDAY - 8 * HOUR, rows=0)
    assert await ledger.told() == []

    await ledger.load(MONDAY - 4 * HOUR, rows=1)
    await ledger.load(MONDAY - 2 * HOUR, rows=1)
    (told,) = await ledger.late()
    assert told.what == "rows that changed at 2026-06-14 20:00 UTC are not in gold, promised within 3 h"
    await ledger.build(MONDAY - HOUR, status="failed")
    assert len(await ledger.late()) == 1
    await ledger.build(MONDAY - HOUR)
    assert await ledger.told() == []


async def test_a_model_is_told_by_what_its_meta_promises(ledger: Ledger) -> None:
    berlin = Calendar("berlin", ["2026-06-16"])
    ledger.declare(calendars=[berlin])
    expected = {"cron": "0 7 * * 1-5", "zone": BERLIN, "holidays": "berlin"}
    await ledger.build(
        MONDAY,
        models={
            "daily": {"built_within": "26 h", "owner": "sales"},
            "report": {"expected_by": expected, "critical": True},
            "free": {"owner": "nobody"},
        },
    )
    assert await ledger.told(MONDAY + 25 * HOUR) == []
    # Tuesday is a holiday; on Wednesday at 07:00 in Berlin the deadline passes.
    assert await ledger.told(MONDAY + 27 * HOUR) == [("late", "gold.daily", "warning")]
    told = await ledger.late(MONDAY + 54 * HOUR)
    assert [(one.name, one.subject, one.severity) for one in told] == [
        ("late", "gold.daily", "error"),
        ("deadline missed", "gold.report", "critical"),
    ]
    assert told[0].fix.endswith("its owner is sales")
    assert told[1].what.startswith("no full build for the deadline 2026-06-17 07:00 Europe/Berlin")


async def test_a_promise_of_a_model_that_cannot_be_read_is_told(ledger: Ledger) -> None:
    ledger.declare()
    await ledger.build(MONDAY, models={"daily": {"expected_by": {"cron": "0 7 * * *", "holidays": "mars"}}})
    (told,) = await ledger.late()
    assert (told.name, told.subject) == ("freshness unknown", "gold.daily")
    assert "there is no calendar 'mars'" in told.what


# -- who is told


async def test_all_that_is_late_of_a_source_is_one_incident_with_the_models_behind_it(warehouse: TestDatabase) -> None:
    async with desk(warehouse, channels={"default": "http://127.0.0.1:1/"}) as office:
        ledger = Ledger(office.connection)
        names = [f"t{number}" for number in range(20)]
        ledger.declare(source(table(), *(table(name) for name in names), freshness=Freshness(loaded_within="2 h")))
        for name in ("baskets", *names):
            await ledger.load(MONDAY - 3 * HOUR, name, rows=1)
        await ledger.build(MONDAY - 3 * HOUR, models={"daily": {"built_within": "2 h"}, "other": {}})
        await office.found(*await ledger.late(), check=NAME)
        await office.pass_by()

        assert len(await office.open()) == 22
        incidents = await ledger.connection.fetch("select * from ops.incidents")
        assert len(incidents) == 1
        (message,) = await ledger.connection.fetch("select * from ops.alert_messages where about = 'opened'")
        assert "Affected in gold: gold.daily, gold.other" in message["body"]
        assert "runbooks/late.md" in message["body"]

        # Loaded and built: it is over, and said so once.
        for name in ("baskets", *names):
            await ledger.load(MONDAY - HOUR / 10, name)
        await ledger.build(MONDAY - HOUR / 12)
        await office.found(*await ledger.late(), check=NAME)
        await office.pass_by(HOUR)
        assert await office.open() == []
        told = await ledger.connection.fetch("select about from ops.alert_messages order by message_id")
        assert [row["about"] for row in told] == ["opened", "resolved"]


async def test_a_real_load_without_changes_is_fresh(ends: TwoEnds) -> None:
    stores = Table("stores", key="store_id", load=Replace(), freshness=Freshness(loaded_within="2 h"))
    await ends.load(stores)
    ends.raw("update ops.loads set finished_at = finished_at - interval '3 hours'")
    async with connect(ends.warehouse_address, side="warehouse") as connection:
        clocks = Clocks([source(stores)], [])
        assert [one.subject for one in await late(connection, clocks=clocks)] == ["shop.stores"]
        result = await ends.load(stores)
        assert (result.counts.rows_inserted, result.counts.rows_updated) == (0, 0)
        assert await late(connection, clocks=clocks) == []
