"""A result that is no match is seen wherever a person looks; and a plan says what would be refused."""

import io
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from rich.console import Console

from flows.access.addresses import connect
from flows.cli import stack_tables, watch
from flows.cli.source_tables import plan_table as plan_screen
from flows.declare import Append, Merge, Overwrite, Replace, Sequence, Timestamp
from flows.kinds.postgres import Database, Table
from flows.state.overview import Overview, read_overview
from flows.tasks.results import _event
from flows.values.errors import DataRefused
from flows.values.plan import LoadCounts
from flows.values.result_words import in_words, warning
from flows.values.settings import settings
from flows.verbs.plan import PlanLine, plan_sources
from tests.conftest import TestDatabase
from tests.publish.two_ends import TwoEnds

SHAPES = {
    "missing": LoadCounts(source_rows=13, raw_rows=10, quarantine_rows=0, reconciliation="missing"),
    "extra": LoadCounts(source_rows=7, raw_rows=10, quarantine_rows=0, reconciliation="extra", extra_rows=3),
    "duplicate": LoadCounts(source_rows=3, raw_rows=1, quarantine_rows=2, reconciliation="duplicate", duplicate_rows=2),
}


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoEnds]:
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", warehouse.url("loader"))
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_URL", shop.url("extractor"))
    settings.cache_clear()
    found = TwoEnds(warehouse, shop)
    found.source(
        "create table t as select n as id, now() as at, current_date as day from generate_series(1, 400) as n; "
        "grant select on t to public"
    )
    yield found
    settings.cache_clear()


@pytest.mark.parametrize("result", SHAPES)
def test_a_result_that_is_no_match_has_words_and_says_what_to_do(result: str) -> None:
    said = in_words(SHAPES[result])
    assert said is not None
    whole = warning(SHAPES[result], "shop.t", "merge", load="merge", has_key=True, deletes=False)
    assert whole is not None
    assert whole.startswith(said)
    assert len(whole) > len(said)


def test_a_match_needs_no_warning() -> None:
    for result in ("match", "not_compared", "incomplete", None):
        assert in_words(LoadCounts(source_rows=1, raw_rows=1, reconciliation=result)) is None


@pytest.mark.parametrize("result", SHAPES)
def test_the_terminal_warns_instead_of_saying_that_nothing_changed(
    result: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load: dict[str, Any] = {
        "source_system": "shop", "table_name": "t", "strategy": "merge", "status": "published", "seconds": 1.0,
        "rows_read": 0, "rows_inserted": 0, "rows_updated": 0, "rows_unchanged": 0, "rows_deleted": 0,
        "rows_quarantined": 0, "rows_deduplicated": 0, "error": None,
        **{name: getattr(SHAPES[result], name) for name in (
            "source_rows", "raw_rows", "quarantine_rows", "reconciliation", "missing_rows", "extra_rows",
            "duplicate_rows", "skipped",
        )},
    }  # fmt: skip

    async def loads(_: str) -> list[dict[str, Any]]:
        return [load]

    monkeypatch.setattr(watch, "watched", lambda *_: None)
    monkeypatch.setattr(watch, "_loads", loads)
    shown = io.StringIO()
    console = Console(file=shown, width=150)
    watch.run({"shop": None}, ingest_only=True, full_refresh=False, console=console)
    assert "Warning shop.t: " in shown.getvalue()
    assert "nothing new to load" not in shown.getvalue()
    load["reconciliation"] = "match"
    watch.run({"shop": None}, ingest_only=True, full_refresh=False, console=console)
    assert "nothing new to load" in shown.getvalue()


async def test_status_event_and_result_tell_it(ends: TwoEnds) -> None:
    table = Table("t", key="id", cursor=Timestamp("at"), load=Merge())
    await ends.load(table)
    ends.source("delete from t where id <= 3")

    result = await ends.load(table)

    assert result.warning is not None
    assert "3 rows in raw no longer at the source" in result.warning
    assert "deletes=True" in result.warning
    assert "3 rows in raw no longer at the source" in await status(ends)
    event = _event(asdict(result), None)
    assert event is not None
    assert (event.event, event.payload["result"]) == ("medallion.load.differs", "extra")
    assert event.payload["what"] == "3 rows in raw no longer at the source"


async def status(ends: TwoEnds) -> str:
    async with connect(ends.warehouse_address, side="warehouse") as warehouse:
        found: Overview = await read_overview(warehouse)
    shown = io.StringIO()
    console = Console(file=shown, width=200)
    for screen in stack_tables.status_tables(found):
        console.print(screen)
    return shown.getvalue()


REFUSED = {
    "replace": Table("t", key="id", load=Replace()),
    "replace without a key": Table("t", load=Replace()),
    "merge": Table("t", key="id", load=Merge(), deletes=True),
    "merge by time": Table("t", key="id", cursor=Timestamp("at"), load=Merge(), deletes=True),
    "overwrite": Table("t", key="id", load=Overwrite(by="day", every="month", last=1)),
}


@pytest.mark.parametrize("table", REFUSED.values(), ids=REFUSED)
async def test_a_plan_says_what_the_next_load_refuses(
    ends: TwoEnds, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.verbs.find.SOURCES", (Database("shop", connection="shop", tables=[table]),))
    await ends.load(table)
    assert (await plan(table)).refusal is None
    ends.source("delete from t where id > 100")

    line = await plan(table)

    assert line.state == "would be refused"
    assert line.refusal is not None
    assert "400" in line.refusal
    shown = io.StringIO()
    Console(file=shown, width=300).print(plan_screen([line]))
    assert "declared share" in shown.getvalue()
    with pytest.raises(DataRefused):
        await ends.load(table)


async def test_a_plan_refuses_no_append_whose_source_forgets(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table("t", key="id", cursor=Sequence("id"), load=Append())
    monkeypatch.setattr("flows.verbs.find.SOURCES", (Database("shop", connection="shop", tables=[table]),))
    await ends.load(table)
    ends.source("delete from t where id > 100")
    assert (await plan(table)).refusal is None


async def plan(table: Table) -> PlanLine:
    (line,) = await plan_sources({"shop": [table.name]})
    assert line.error is None, line.error
    return line
