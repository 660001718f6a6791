"""A deployment's run that waits for a decision is suspended with a form, and goes on after the answer."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from prefect import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow_async

from flows.access.addresses import connect
from flows.declare import Ask, Merge
from flows.ingest import ingest
from flows.kinds.postgres import Database, Table
from flows.state import decisions
from flows.tasks.suspending import resume_run
from flows.values.connection import DatabaseConnection
from flows.values.errors import DecisionNeeded, MedallionError
from tests.flows.conftest import Ends
from tests.kinds.loading import rows
from tests.publish.two_ends import run_sql

TABLES = [
    Table(name, key="fact_id", load=Merge(), deletes=True, max_deleted=0.1) for name in ("facts", "others", "quiet")
]
SHOP = Database("shop", connection="shop", on_refusal=Ask(), tables=TABLES)


@pytest.fixture
def facts(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> Ends:
    monkeypatch.setattr("flows.verbs.find.SOURCES", (SHOP,))
    for table in TABLES:
        run_sql(
            ends.shop.url("app"),
            f"create table {table.name} as select n as fact_id from generate_series(1, 1000) as n; "
            f"alter table {table.name} add primary key (fact_id); "
            f"grant select on {table.name} to medallion_extractor",
        )
    return ends


async def start() -> FlowRun:
    """A run of a deployment, which no worker takes."""
    async with get_client() as client:
        flow = await client.create_flow(ingest)
        deployment = await client.create_deployment(flow, "ingest-shop")
        return await client.create_flow_run_from_deployment(deployment, parameters={"source": "shop"})


async def work(run: UUID, monkeypatch: pytest.MonkeyPatch) -> State[Any]:
    """What a worker's process does with the run; its state at the server afterwards."""
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(run))
    async with get_client() as client:
        with suppress(Pause):  # of a suspended run, whose process ends here
            await run_flow_async(ingest, await client.read_flow_run(run), {"source": "shop"}, return_type="state")
        state = (await client.read_flow_run(run)).state
    monkeypatch.delenv("PREFECT__FLOW_RUN_ID")
    assert state is not None
    return state


async def suspended(facts: Ends, monkeypatch: pytest.MonkeyPatch, *emptied: str) -> FlowRun:
    """A run that waits for decisions about these tables."""
    await ingest("shop")
    for name in emptied:
        run_sql(facts.shop.url("app"), f"delete from {name} where fact_id <= 300")
    run = await start()
    state = await work(run.id, monkeypatch)
    assert (state.type.value, state.name) == ("PAUSED", "Suspended"), state.message
    return run


async def send_form(run: UUID, **given: str) -> None:
    async with get_client() as client:
        await client.resume_flow_run(run, run_input=given)


def deleted(facts: Ends) -> dict[str, int]:
    found = {}
    for table in TABLES:
        counted = f"select count(*) as n from raw_shop.{table.name} where _deleted_at is not null"
        found[table.name] = rows(facts.warehouse, counted)[0]["n"]
    return found


def answered(facts: Ends) -> list[dict[str, Any]]:
    return rows(
        facts.warehouse,
        "select status, answered_by as by, answered_through as through, used_at is not null as used "
        "from ops.decisions order by decision_id",
    )


async def test_the_form_has_a_choice_per_question_and_the_run_goes_on_where_it_was(
    facts: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await suspended(facts, monkeypatch, "facts", "others")
    assert deleted(facts) == {"facts": 0, "others": 0, "quiet": 0}
    async with get_client() as client:
        paused = (await client.read_flow_run(run.id)).state
        assert paused is not None
        keys = paused.state_details.run_input_keyset
        assert keys is not None
        schema = json.loads(await client.read_flow_run_input(run.id, keys["schema"]))
        shown = await client.read_flow_run_input(run.id, keys["description"])
    assert set(schema["required"]) == {"decision_1", "decision_2", "name", "reason"}
    assert schema["properties"]["decision_1"]["enum"] == ["accept", "refuse"]
    assert "300 of 1000 rows of raw were deleted" in shown
    loads = "select count(*) as n from ops.loads where table_name = 'quiet'"
    before = rows(facts.warehouse, loads)

    about = {
        one["table_name"]: f"decision_{one['decision_id']}" for one in rows(facts.warehouse, "table ops.decisions")
    }
    await send_form(run.id, **{about["facts"]: "accept", about["others"]: "refuse"}, name="anna", reason="moved")
    state = await work(run.id, monkeypatch)

    assert state.type.value == "FAILED"
    assert "anna refused it" in str(state.message)
    assert deleted(facts) == {"facts": 300, "others": 0, "quiet": 0}
    assert {(one["by"], one["through"], one["used"]) for one in answered(facts)} == {("anna", "form", True)}
    assert rows(facts.warehouse, loads) == before, "what was loaded before the question is not loaded again"


async def test_an_answer_on_the_command_line_resumes_the_run(facts: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await suspended(facts, monkeypatch, "facts")
    async with connect(DatabaseConnection("warehouse", facts.warehouse.url("loader")), side="warehouse") as warehouse:
        assert await decisions.answer(warehouse, 1, accept=True, by="ben", reason="moved")
        asked = await decisions.find(warehouse, "true")

    assert resume_run(asked)

    assert (await work(run.id, monkeypatch)).type.value == "COMPLETED"
    assert deleted(facts)["facts"] == 300
    assert answered(facts) == [{"status": "accepted", "by": "ben", "through": "command", "used": True}]
    assert not resume_run(asked), "it does not wait any more"


@pytest.mark.long
async def test_a_form_that_comes_second_hears_who_decided(
    facts: Ends, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = await suspended(facts, monkeypatch, "facts")
    async with connect(DatabaseConnection("warehouse", facts.warehouse.url("loader")), side="warehouse") as warehouse:
        assert await decisions.answer(warehouse, 1, accept=True, by="ben", reason="moved")
    await send_form(run.id, decision_1="refuse", name="anna", reason="not ours")

    assert (await work(run.id, monkeypatch)).type.value == "COMPLETED"

    assert answered(facts)[0]["by"] == "ben"
    assert "decision 1: accepted by ben before the form was sent: the first answer counts" in caplog.text


@pytest.mark.long
async def test_a_later_run_that_meets_the_question_does_not_wait_as_well(
    facts: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    await suspended(facts, monkeypatch, "facts")

    second = await work((await start()).id, monkeypatch)

    assert second.type.value == "FAILED"
    assert "this waits for a person's decision 1" in str(second.message)


@pytest.mark.long
async def test_a_run_in_which_something_else_failed_does_not_wait(facts: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    await ingest("shop")
    run_sql(facts.shop.url("app"), "delete from facts where fact_id <= 300; drop table quiet")
    assert (await work((await start()).id, monkeypatch)).type.value == "FAILED"


async def test_without_a_deployment_the_run_ends_and_the_next_takes_the_answer(facts: Ends) -> None:
    await ingest("shop")
    run_sql(facts.shop.url("app"), "delete from facts where fact_id <= 300")
    with pytest.raises(MedallionError) as problem:
        await ingest("shop")
    assert isinstance(problem.value, DecisionNeeded)
    assert problem.value.exit_code == 5
    async with connect(DatabaseConnection("warehouse", facts.warehouse.url("loader")), side="warehouse") as warehouse:
        assert await decisions.answer(warehouse, 1, accept=True, by="ben", reason="moved")

    await ingest("shop")

    assert deleted(facts)["facts"] == 300
