"""What a flow left at the Prefect server."""

import time
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker


def flow_run_id(state: State[Any]) -> UUID:
    """The id of the flow run that ended in the state."""
    identity = state.state_details.flow_run_id
    assert identity is not None
    return identity


def flow_run(state: State[Any]) -> FlowRun:
    """The flow run that ended in the state, as the server knows it."""
    with get_client(sync_client=True) as client:
        return client.read_flow_run(flow_run_id(state))


def task_runs(state: State[Any], count: int, seconds: float = 60) -> list[TaskRun]:
    """The flow run's task runs, once `count` of them have reached the server and ended: it learns of them by events."""
    until = time.monotonic() + seconds
    found: list[TaskRun] = []
    while time.monotonic() < until:
        with get_client(sync_client=True) as client:
            found = client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id(state)])), limit=200
            )
        if len(found) >= count and all(run.state and run.state.is_final() for run in found):
            break
        time.sleep(0.2)
    return found


def artifacts(state: State[Any]) -> dict[str, str]:
    """The flow run's artifacts by key."""
    return artifacts_of(flow_run_id(state))


def artifacts_of(run: UUID) -> dict[str, str]:
    """A flow run's artifacts by key."""
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run])), limit=200
        )
    return {str(artifact.key): str(artifact.data) for artifact in found}


def logs_of(run: UUID) -> str:
    """A flow run's log lines, those of its tasks among them."""
    with get_client(sync_client=True) as client:
        found = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run])), limit=200)
    return "\n".join(line.message for line in found)


def names_of_task_runs(run: UUID, at_least: int, seconds: float = 60) -> set[str]:
    """The names of a flow run's task runs, once so many have reached the server."""
    until = time.monotonic() + seconds
    while True:
        with get_client(sync_client=True) as client:
            found = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])), limit=200)
        if len(found) >= at_least or time.monotonic() > until:
            return {found_run.name for found_run in found}
        time.sleep(0.2)


def forget_senders() -> None:
    """Prefect keeps what sends events and logs, with the server it sends them to, for as long as a process lives: where
    another test of this worker spoke to another server, this one would wait in vain for what went there."""
    EventsWorker.drain_all()
    APILogWorker.drain_all()
