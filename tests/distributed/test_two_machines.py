"""Two machines take runs from one pool; one of them is lost in the middle of a load, and the other finishes the work.

The machines are network namespaces that reach server and databases by TCP over a wire of their own. Everything on them
is real: Prefect's worker, the flow runs that it starts, and the loads in these.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from flows.sources.shop import shop as declared_shop
from tests.conftest import TestDatabase
from tests.deployments.asking import asked
from tests.deployments.deploying import SMALL, Deploying
from tests.distributed.machines import Machine, why_not
from tests.distributed.wire import passed_on
from tests.flows.scripted_api import ScriptedApi
from tests.kinds.loading import addresses
from tests.kinds.postgres.invariants import six_invariants
from tests.publish.two_ends import TwoEnds

ROOT = Path(__file__).parents[2]
REASON = why_not()
# Two workers and five flow runs take a core for a minute. With every change tests/deployments/test_lost_runs.py has
# another worker finish what one has left, test_by_itself.py has a lost worker's run noticed, and
# tests/kinds/conformance/test_restarts.py has a killed load finished by the next one.
pytestmark = [
    pytest.mark.long,
    pytest.mark.xdist_group("deployments"),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]
#: Waits end as soon as what they wait for is there; this is for a busy machine.
PATIENCE_SECONDS = 240


async def test_a_lost_machine_s_run_is_finished_by_another(
    api: str, warehouse: TestDatabase, shop: TestDatabase, tmp_path: Path
) -> None:
    """A run is taken for crashed after one missed heartbeat here, and after three in an environment of ours."""
    deploying = Deploying(api, ROOT, replace(SMALL, active=False, missed_heartbeats=1))
    deploying.deploy()
    follow_ingests(deploying)
    with two_machines(api, warehouse, shop, tmp_path) as machines:
        async with six_invariants(TwoEnds(warehouse, shop), declared_shop):
            with locked(shop, "basket_items"):
                runs = {name: start(deploying, f"ingest/ingest-{name}") for name in ("shop", "marketing")}
                await becomes(lambda: loaded(warehouse) >= {"shop.baskets", "marketing.coupons"})
                await becomes(lambda: state(deploying, runs["marketing"]) == "Completed")
                # On a busy machine its turn among the tables of its source may come later than the other run's end.
                await becomes(lambda: "shop.basket_items" in loading(warehouse))
                lost = next(machine for machine in machines if machine.runs(runs["shop"]))
                left = next(machine for machine in machines if machine is not lost)
                assert left.ran(runs["marketing"]), "the runs were not shared"
                lost.machine.lose()
            await becomes(lambda: state(deploying, runs["shop"]) == "Completed")
            run = deploying.get(f"/flow_runs/{runs['shop']}")
            assert run["run_count"] == 2
            assert left.ran(runs["shop"])
            assert "Crashed" in {entry["name"] for entry in states(deploying, runs["shop"])}
        # The last ingest of the hour, whose end starts a transform: nobody else asks for one.
        start(deploying, "ingest/ingest-currency")
        await becomes(lambda: transforms(deploying))


class Worker:
    """A machine with a worker of the pool on it, which takes one run at a time."""

    def __init__(self, machine: Machine, api: str, variables: Mapping[str, str], log: Path) -> None:
        self.machine = machine
        self.log = log
        port = urlsplit(api).port
        environment = {
            **os.environ,
            **{name: value.replace("127.0.0.1", machine.gateway) for name, value in variables.items()},
            "PREFECT_API_URL": f"http://{machine.gateway}:{port}/api",
            "PREFECT_HOME": str(log.parent / f"home-{machine.name}"),
            "MEDALLION_HOME": str(log.parent / f"medallion-{machine.name}"),
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "local", "--limit", "1"]
        machine.start([*command, "--name", machine.name], environment, cwd=ROOT, log=log)

    def ran(self, run: str) -> bool:
        """Whether this worker was given the run."""
        return run in self.log.read_text(errors="replace")

    def runs(self, run: str) -> bool:
        """Whether a process of the run lives on the machine."""
        return any(run.encode() in environment_of(pid) for pid in self.machine.pids)


@contextmanager
def two_machines(api: str, warehouse: TestDatabase, shop: TestDatabase, folder: Path) -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        commerce = stack.enter_context(ScriptedApi())
        # Off loopback TLS is asked for unless an address says otherwise; the wheel's PostgreSQL has none.
        variables = {name: f"{url}?sslmode=disable" for name, url in addresses(warehouse, shop).items()}
        for name in ("MARKETING", "CURRENCY"):
            variables |= {f"MEDALLION_SOURCE_{name}_URL": commerce.url, f"MEDALLION_SOURCE_{name}_KEY": commerce.key}
        machines = [stack.enter_context(Machine(name, number)) for number, name in enumerate(("a", "b"))]
        ports = [urlsplit(url).port for url in (api, commerce.url, shop.url("app"))]
        hosts = [machine.gateway for machine in machines]
        stack.enter_context(passed_on(hosts, [port for port in ports if port is not None]))
        yield [Worker(machine, api, variables, folder / f"worker-{machine.name}.log") for machine in machines]


def environment_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


@contextmanager
def locked(database: TestDatabase, table: str) -> Iterator[None]:
    """Nobody reads the table meanwhile, so a load of it is under way for as long."""
    with psycopg.connect(database.url("app")) as session:
        session.execute(f"lock table {table} in access exclusive mode".encode())
        yield


async def becomes(true: Callable[[], Any]) -> None:
    """Wait until it is true."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not await asyncio.to_thread(true):
        assert time.monotonic() < until, f"{true.__code__.co_names} did not become true"
        await asyncio.sleep(0.3)


def start(deploying: Deploying, name: str) -> str:
    deployment = deploying.get(f"/deployments/name/{name}")
    url = f"{deploying.api}/deployments/{deployment['id']}/create_flow_run"
    return str(asked("POST", url, json={}).json()["id"])


def state(deploying: Deploying, run: str) -> str:
    return str(deploying.get(f"/flow_runs/{run}")["state"]["name"])


def states(deploying: Deploying, run: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = deploying.get(f"/flow_run_states/?flow_run_id={run}")
    return found


def transforms(deploying: Deploying) -> list[Any]:
    wanted = {"flows": {"name": {"any_": ["transform"]}}}
    found: list[Any] = asked("POST", f"{deploying.api}/flow_runs/filter", json=wanted).json()
    return found


def follow_ingests(deploying: Deploying) -> None:
    """Let transform follow the ingests where schedules are off, whose hour might strike in the middle of this."""
    for automation in deploying.filtered("automations"):
        if automation["name"] == "transform follows the ingests":
            asked("PATCH", f"{deploying.api}/automations/{automation['id']}", json={"enabled": True}).raise_for_status()


def loaded(warehouse: TestDatabase) -> set[str]:
    return _loads(warehouse, "published")


def loading(warehouse: TestDatabase) -> set[str]:
    return _loads(warehouse, "running")


def _loads(warehouse: TestDatabase, status: str) -> set[str]:
    with psycopg.connect(warehouse.url("loader")) as session:
        found = session.execute(
            "select source_system || '.' || table_name from ops.loads where status = %s", [status]
        ).fetchall()
    return {name for (name,) in found}
