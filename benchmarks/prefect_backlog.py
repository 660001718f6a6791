"""The client's side of `benchmarks.prefect_database`: a flow of the size of an ingest, scheduled and worked off.

schedule RUNS              as many runs of one deployment, all due now
work OF NUMBER AT_ONCE     the runs of one of OF processes, AT_ONCE at a time, in threads
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.flow_engine import run_flow
from prefect.logging import get_run_logger
from prefect.states import Pending

_TASKS = 12
_PAGE = 200


@task
def load(number: int) -> None:
    """A task with two lines of log, as a load of a table has."""
    log = get_run_logger()
    log.info("table %d: 1,000 rows read", number)
    log.info("table %d: published", number)


@flow(name="backlog")
def backlog() -> None:
    """As many tasks as an ingest has, and its report."""
    for number in range(_TASKS):
        load(number)
    create_markdown_artifact(key="backlog", markdown="| table | rows |\n| --- | --- |\n" + "| a | 1 |\n" * _TASKS)


def schedule(runs: int) -> None:
    """Deploy the flow, and make its runs due."""
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(backlog), "backlog")
        for _ in range(runs):
            client.create_flow_run_from_deployment(deployment)


def work(of: int, number: int, at_once: int) -> None:
    """Run every `of`-th of the runs that are due. One that fails is printed, and the others go on."""
    with ThreadPoolExecutor(at_once) as threads:
        for problem in threads.map(_work, _due()[number::of]):
            if problem is not None:
                print(problem, flush=True)


def _work(due: FlowRun) -> str | None:
    try:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(due.id, Pending())
            run = client.read_flow_run(due.id)
        run_flow(backlog, flow_run=run)
    except Exception as problem:
        return f"{type(problem).__name__}: {str(problem)[:300]}"
    return None


def _due() -> list[FlowRun]:
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=FlowRunFilter(), sort=FlowRunSort.ID_DESC, limit=_PAGE)


if __name__ == "__main__":
    verb, *given = sys.argv[1:]
    sys.path.insert(0, str(Path(__file__).parents[1]))
    verbs: dict[str, Callable[..., None]] = {"schedule": schedule, "work": work}
    verbs[verb](*map(int, given))
