"""A run with a budget, on a real Prefect server: what it stops, what it does not begin, and what it is called."""

from dataclasses import replace
from typing import Any

import pytest
from prefect.client.schemas.objects import State
from typer.testing import CliRunner

from deployments import automations
from flows.cli.app import app
from flows.declare import Budget
from flows.declare.budget import STOPPED_AT_BUDGET
from flows.ingest import _longest_unread_first as longest_unread_first_of
from flows.ingest import ingest
from flows.render.ingest_deployments import follows_ingests
from flows.sources.shop import shop as declared_shop
from tests.flows.conftest import Ends
from tests.flows.prefect_facts import artifacts
from tests.kinds.loading import rows


async def run(**budget: Any) -> State[Any]:
    state: State[Any] = await ingest("shop", **budget, return_state=True)
    return state


async def test_a_run_stops_at_its_budget_names_what_it_has_not_read_and_reads_that_first_next_time(ends: Ends) -> None:
    """450 basket items are more than the budget, and cannot be left out for ever."""
    first = await run(max_rows=460)

    loaded = await first.aresult()
    assert (first.type.value, first.name) == ("COMPLETED", STOPPED_AT_BUDGET)
    read = sum(load["counts"]["rows_read"] for load in loaded)
    unread = {load["table"] for load in loaded if load["stopped"]}
    assert read <= 460
    assert unread
    assert "basket_items" in unread or read == 450
    (ran,) = rows(ends.warehouse, "select status, details from ops.runs")
    assert (ran["status"], set(ran["details"]["stopped_at_budget"])) == ("stopped", unread)
    assert "stopped at its budget of 460 rows" in artifacts(first)["loads-shop"]

    for _ in range(4):
        state = await run(max_rows=460)
        if state.name != STOPPED_AT_BUDGET:
            break
    complete = rows(
        ends.warehouse, "select distinct table_name as name from ops.loads where reconciliation = 'match' order by 1"
    )
    assert {row["name"] for row in complete} == {table.name for table in declared_shop.tables}


async def test_tables_that_were_not_read_for_longest_come_first(ends: Ends) -> None:
    state: State[Any] = await ingest("shop", ["households", "stores"], return_state=True)
    await state.aresult()

    ordered = await longest_unread_first_of(declared_shop, list(declared_shop.tables))

    assert {table.name for table in ordered[-2:]} == {"households", "stores"}


async def test_a_source_has_a_budget_for_all_of_its_tables(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = replace(declared_shop, budget=Budget(rows=165), max_parallel=1)
    monkeypatch.setattr("flows.verbs.find.SOURCES", (declared,))

    state = await run()

    loaded = await state.aresult()
    assert state.name == STOPPED_AT_BUDGET
    assert 0 < sum(load["counts"]["rows_read"] for load in loaded) <= 165
    assert any("not read" in (load["stopped"] or "") for load in loaded)


async def test_a_budget_that_is_not_reached_changes_nothing(ends: Ends) -> None:
    state = await run(max_rows=100_000, max_minutes=60)

    assert state.name == "Completed"
    assert all(load["stopped"] is None for load in await state.aresult())


def test_the_command_line_shows_what_stopped_and_ends_with_an_exit_code_of_its_own(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.cli.run.prepare", lambda **_: None)

    done = CliRunner().invoke(app, ["run", "shop", "--ingest-only", "--max-rows", "200"])

    assert done.exit_code == 4, done.output
    said = " ".join(done.output.split())
    assert "Stopped shop." in said
    assert "budget of 200 rows (of the run)" in said
    assert "There was nothing new to load" not in said


def test_automations_know_that_a_run_which_stopped_at_its_budget_has_ended() -> None:
    """Prefect names its events by the state's name: otherwise it would pass for a silent run, and no transform would
    follow it."""
    event = f"prefect.flow-run.{STOPPED_AT_BUDGET}"

    assert event in automations._SIGNS_OF_LIFE & automations._WENT_ON & automations._TAKEN_UP
    assert event in str(follows_ingests([declared_shop]))
