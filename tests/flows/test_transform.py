"""The gates of transform, on a real Prefect server and without dbt."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from flows.access import addresses
from flows.state.transform_lock import transform_lock
from flows.tasks import gates
from flows.transform import transform
from flows.values.errors import DataRefused, LoadLocked
from flows.values.settings import settings
from tests.conftest import TestDatabase
from tests.flows.conftest import Ends
from tests.flows.prefect_facts import artifacts
from tests.flows.small_project import edit
from tests.kinds.loading import load, rows
from tests.publish.two_ends import run_sql


def test_a_closed_raw_gate_stops_before_dbt(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that was loaded and stands empty now is looked at, whichever source was loaded last."""
    asyncio.run(load(ends.warehouse, ends.shop, "stores"))
    run_sql(ends.warehouse.url("loader"), "truncate raw_shop.stores")
    started: list[str] = []
    monkeypatch.setattr("flows.tasks.builds.build", lambda **_: started.append("dbt"))

    state: State[Any] = transform(return_state=True)

    with pytest.raises(DataRefused, match=r"gate raw: \d+ of \d+ checks failed") as caught:
        state.result()
    assert started == []
    assert "soda/raw" in caught.value.fix
    assert rows(ends.warehouse, "select pipeline, status from ops.runs") == [
        {"pipeline": "transform", "status": "refused"}
    ]
    assert len(rows(ends.warehouse, "select * from ops.check_results")) > 0
    assert "Gate raw: failed" in artifacts(state)["gate-raw"]
    assert rows(ends.warehouse, "select failure_class, location from ops.errors") == [
        {"failure_class": "data", "location": "gate raw"}
    ]


def test_a_gate_without_a_single_contract_is_no_open_gate(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "contracts_of", lambda *_: [])

    state: State[Any] = transform(return_state=True)

    with pytest.raises(DataRefused, match="there are no tables or contracts to check"):
        state.result()


def test_a_warehouse_that_was_never_loaded_has_nothing_to_transform_and_is_told_what_to_run(ends: Ends) -> None:
    state: State[Any] = transform(return_state=True)

    with pytest.raises(DataRefused, match="run `medallion run`"):
        state.result()


def test_a_second_transform_waits_for_the_first_and_then_says_who_is_in_the_way(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two builds of dbt in one warehouse would trip over each other's temporary tables."""
    monkeypatch.setattr(settings(), "lock_wait_seconds", 0.6)
    began = time.monotonic()
    with transform_lock(addresses.warehouse(), wait_seconds=0):
        state: State[Any] = transform(return_state=True)
        with pytest.raises(LoadLocked, match="another transform is running"):
            state.result()
    assert time.monotonic() - began >= 0.6
    assert rows(ends.warehouse, "select * from ops.runs") == []


def test_a_transform_that_was_killed_does_not_run_for_ever_in_operations(ends: Ends) -> None:
    run_sql(ends.warehouse.url("loader"), "insert into ops.runs (pipeline) values ('transform')")

    transform(return_state=True)

    ended = rows(ends.warehouse, "select status, details ->> 'ended' as ended from ops.runs order by run_id")
    assert ended[0] == {"status": "failed", "ended": "the process ended without a word"}
    assert ended[1]["status"] == "refused"


#: The score says when it was made, and means nothing else by it.
_STAMPED = ("silver/score.sql", "full_refresh=false", "full_refresh=false, meta={'reads_clock': 'stamp'}")


def test_a_second_transform_builds_and_verifies_nothing_and_its_checks_are_those_that_hold(
    shared: TestDatabase, project: Path
) -> None:
    """It is a copy of a warehouse: the first here takes no table for the one that was built."""
    edit(project, *_STAMPED)
    first = transform()
    query = "select dataset, check_name, outcome from ops.check_results where run_id = {run} order by 1, 2"
    (last,) = rows(shared, "select max(run_id) as run from ops.runs")

    second = transform()

    assert (second["built"], second["nodes"], second["checks"]) == (0, 0, 0)
    assert second["unchanged"] == first["built"] + first["unchanged"] > 0
    (again,) = rows(shared, "select max(run_id) as run from ops.runs")
    assert again["run"] > last["run"]
    assert rows(shared, query.format(**again)) == rows(shared, query.format(**last)) != []


def test_full_builds_and_verifies_everything(shared: TestDatabase, project: Path) -> None:
    transform()

    facts = transform(full=True)

    assert facts["unchanged"] == 0
    assert facts["checks"] > 0


def test_an_edited_model_whose_rows_stay_is_built_alone(shared: TestDatabase, project: Path) -> None:
    edit(project, *_STAMPED)
    transform()
    # Its rows stay: what reads it is left. White space alone would be no edit to dbt.
    edit(project, "gold/mart.sql", "'kept'", "'ke' || 'pt'")

    facts = transform()

    assert facts["built"] == 1
