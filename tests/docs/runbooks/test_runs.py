"""Runbooks of the Prefect server and its flow runs. What the server says is written by the test, and so is what its
commands do to it: tests/deployments has the checks and a real server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.operations.alerts import Condition
from flows.operations.checks import flow_runs, schedules
from flows.operations.checks.check import Check, Round
from flows.operations.prefect_api import PrefectDown
from flows.operations.prefect_facts import Deployment, FlowRun, Pool, PrefectFacts
from tests.docs.runbooks.night import Night, ago, exercise

INGEST = Deployment("1", "ingest/ingest-shop", active=True, pool="local", source="shop")
TRANSFORM = Deployment("2", "transform/transform", active=True, pool="local", source=None)


@dataclass
class Server:
    """A Prefect server by what it says; `down`, it says nothing."""

    facts: PrefectFacts
    down: bool = False
    #: The reader asks it by this, and closes it.
    api: Any = field(init=False)

    def __post_init__(self) -> None:
        self.api = self

    async def read(self, _: datetime) -> PrefectFacts:
        if self.down:
            raise PrefectDown("does not answer", "start it")
        return replace(self.facts, answered_at=datetime.now(UTC))

    async def close(self) -> None:
        """Nothing is open."""

    def says(self, **facts: Any) -> None:
        self.facts = replace(self.facts, **facts)

    # -- what the commands of pages do

    def start_run(self, arguments: list[str]) -> None:
        """`prefect deployment run`: it runs and completes."""
        [name] = arguments
        deployment = next(each for each in self.facts.deployments if each.full_name == name)
        self.says(ended={**self.facts.ended, deployment.id: a_run("COMPLETED", deployment)})

    def cancel(self, arguments: list[str]) -> None:
        """`prefect flow-run cancel`."""
        assert arguments[0] in {run.id for run in self.facts.begun}, "no run of that id is in progress"
        self.says(begun=[run for run in self.facts.begun if run.id not in arguments])

    def resume(self, arguments: list[str]) -> None:
        """`prefect work-pool resume`: its worker takes what is due."""
        self.says(due=[run for run in self.facts.due if run.pool not in arguments])

    def poll(self, arguments: list[str]) -> None:
        """`medallion worker --pool`."""
        [pool] = arguments
        self.says(pools={pool: Pool(pool, polled=True, paused=False)})


def a_run(kind: str, deployment: Deployment = INGEST, number: int = 1, **age: float) -> FlowRun:
    """A run in that state, since some time."""
    since = ago(**age)
    return FlowRun(f"run-{number}", deployment, kind, kind.title(), "", since, since, 1, deployment.pool)


@pytest.fixture
def server(night: Night) -> Server:
    pools = {"local": Pool("local", polled=True, paused=False)}
    nothing: dict[str, Any] = {"due": [], "begun": [], "ended": {}, "dropped": [], "crashed": []}
    facts = PrefectFacts(
        datetime.now(UTC), deployments=[INGEST, TRANSFORM], planned=frozenset({"1", "2"}), pools=pools, **nothing
    )
    found = Server(facts)
    night.it.watch.prefect = found  # type: ignore[assignment]
    look = ("flow-run inspect ", "flow-run logs ", "flow-run ls", "work-pool inspect ")
    night.stands_for |= {
        **{f"prefect {command}": lambda _: None for command in look},
        "prefect deployment run ": found.start_run,
        "prefect flow-run cancel ": found.cancel,
        "prefect work-pool resume ": found.resume,
        "medallion worker --pool ": found.poll,
    }
    return found


def watch(night: Night, look: Callable[[Round], Awaitable[list[Condition]]]) -> None:
    """The watch makes this check whenever the server answers."""
    night.it.watch.checks = [Check("runs", look, frozenset({"prefect"}))]
    night.round()


@exercise("Prefect server down")
def test_a_server_that_does_not_answer(night: Night, server: Server) -> None:
    server.down = True
    watch(night, lambda at: schedules.workers_poll(at.facts))
    night.follow("Prefect server down", "Prefect server", hands={2: lambda: setattr(server, "down", False)})


@exercise("no next run")
def test_a_scheduler_that_is_dead(night: Night, server: Server) -> None:
    server.says(planned=frozenset({"2"}))
    watch(night, lambda at: schedules.next_runs_planned(at.facts))
    restarted = frozenset({"1", "2"})
    night.follow("no next run", "ingest/ingest-shop", hands={2: lambda: server.says(planned=restarted)})


@exercise("no worker")
def test_a_pool_without_a_worker(night: Night, server: Server) -> None:
    server.says(pools={"local": Pool("local", polled=False, paused=False)})
    watch(night, lambda at: schedules.workers_poll(at.facts))
    night.follow("no worker", "work pool local", POOL="local")


@pytest.mark.parametrize("state", ["FAILED", "CRASHED", "CANCELLED"])
@exercise("flow run failed")
@exercise("flow run crashed")
@exercise("flow run cancelled")
def test_a_run_that_ended_badly(night: Night, server: Server, state: str) -> None:
    server.says(ended={"1": a_run(state)})
    watch(night, lambda at: flow_runs.ended_badly(at.facts, at.connection))
    name = f"flow run {state.lower()}"
    night.follow(name, INGEST.full_name, RUN="run-1", DEPLOYMENT=INGEST.full_name)


@exercise("flow run restarted")
def test_a_run_that_was_restarted(night: Night, server: Server) -> None:
    server.says(crashed=[(INGEST, ago(minutes=1))])
    watch(night, lambda at: flow_runs.restarted(at.facts))
    # The server is asked for the crashes of the last 15 minutes.
    night.follow("flow run restarted", INGEST.full_name, hands={2: lambda: server.says(crashed=[])})


@exercise("flow run dropped")
def test_a_run_that_was_dropped(night: Night, server: Server) -> None:
    server.says(dropped=[a_run("CANCELLED")])
    watch(night, lambda at: flow_runs.dropped(at.facts))
    night.follow(
        "flow run dropped", INGEST.full_name, hands={2: lambda: server.says(dropped=[])}, DEPLOYMENT=INGEST.full_name
    )  # fmt: skip


@exercise("flow run late")
def test_a_run_that_does_not_begin(night: Night, server: Server) -> None:
    server.says(due=[a_run("SCHEDULED", minutes=20)])
    watch(night, lambda at: flow_runs.late(at.facts, at.facts.answered_at, timedelta(minutes=15)))
    night.follow("flow run late", INGEST.full_name, POOL="local")


@exercise("flow run pending")
def test_a_run_that_stays_pending(night: Night, server: Server) -> None:
    server.says(begun=[a_run("PENDING", minutes=9)])
    watch(night, lambda at: flow_runs.pending(at.facts, at.facts.answered_at, timedelta(minutes=8)))
    night.follow("flow run pending", INGEST.full_name, RUN="run-1", DEPLOYMENT=INGEST.full_name)


@exercise("flow runs overlap")
def test_two_runs_of_a_deployment(night: Night, server: Server) -> None:
    server.says(begun=[a_run("RUNNING"), a_run("RUNNING", number=2)])
    watch(night, lambda at: flow_runs.overlapping(at.facts))
    night.follow("flow runs overlap", INGEST.full_name, RUN="run-2")


@exercise("gold not built")
def test_gold_that_is_not_built(night: Night, server: Server) -> None:
    night.raw("insert into ops.runs (pipeline, scope, status, started_at, finished_at) "
              "values ('transform', '', 'done', now() - interval '10 h', now() - interval '9 h')")  # fmt: skip
    watch(night, lambda at: flow_runs.gold_built(at.facts, at.connection, timedelta(hours=8)))
    night.follow("gold not built", "transform")
