"""The id at Prefect: as a tag of flow runs and task runs, and from a tag into a worker's process."""

import os
from typing import Any

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow

from flows.tasks.correlation import correlated_run, tagged_runs
from flows.values.correlation import correlation_id
from tests.flows.prefect_facts import flow_run


@task
def seen_by_a_task() -> str:
    return correlation_id()


@flow
def inner() -> str:
    with correlated_run("inner"):
        return seen_by_a_task()


@flow
def outer() -> tuple[str, str]:
    with correlated_run("outer") as identifier:
        return identifier, inner()


def test_a_flow_run_that_was_created_with_an_id_works_under_it_in_whichever_process(prefect_server: str) -> None:
    """As a worker takes it: `prefect deployment run transform/transform --tag correlation:abc`."""
    with get_client(sync_client=True) as client:
        created = client.create_flow_run(outer, tags=["correlation:abc", "nightly"])
    state: Any = run_flow(outer, flow_run=created, return_type="state")
    assert state.result() == ("abc", "abc")
    assert set(flow_run(state).tags) == {"correlation:abc", "nightly"}


def test_a_scheduled_flow_run_gets_an_id_and_its_tag_and_keeps_its_others(prefect_server: str) -> None:
    with get_client(sync_client=True) as client:
        created = client.create_flow_run(outer, tags=["nightly"])
    state: Any = run_flow(outer, flow_run=created, return_type="state")
    identifier, within = state.result()
    assert identifier == within != "-"
    assert set(flow_run(state).tags) == {f"correlation:{identifier}", "nightly"}


def test_runs_of_a_command_are_created_with_its_tag(prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "MEDALLION_CORRELATION_ID", "from-the-shell")
    with tagged_runs():
        state: Any = outer(return_state=True)
    assert state.result() == ("from-the-shell", "from-the-shell")
    assert flow_run(state).tags == ["correlation:from-the-shell"]
