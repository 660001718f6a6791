"""Faults of the platform's own parts: worker, Prefect server, warehouse, watch, readers, the receiver of alerts."""

from __future__ import annotations

import time

import psycopg

from infra.gameday.fault import Fault, Scene

#: Where a load's process is killed: before, in and after its one transaction.
_FAILPOINTS = (
    "after_load_opened",
    "after_copy",
    "after_check",
    "in_publish_before_rows",
    "in_publish_after_rows",
    "in_publish_before_commit",
    "after_commit",
)
#: Runs that were in progress while Prefect or the warehouse was away.
_RUNS_FAIL = (
    "flow run crashed *",
    "flow run failed *",
    "flow run restarted *",
    "run ended early *",
    "run failed ingest *",
    "load failed *",
)


def _kill_worker(scene: Scene) -> None:
    """Between two runs: what a worker took and did not begin is reported after eight minutes, longer than any fault."""
    world = scene.world
    with world.prefect_client() as prefect:
        prefect.patch("/work_pools/local", json={"is_paused": True}).raise_for_status()
        try:
            scene.until(lambda: not world.active_runs(), "a moment without active runs")
            scene.undo.callback(world.worker.start)
            world.worker.kill()
        finally:
            prefect.patch("/work_pools/local", json={"is_paused": False}).raise_for_status()


def _kill_prefect(scene: Scene) -> None:
    scene.undo.callback(scene.world.start_prefect)
    scene.world.kill_prefect()


def _crash_warehouse(scene: Scene) -> None:
    scene.undo.callback(scene.world.warehouse.start)
    scene.world.warehouse.crash()


def _kill_watch(scene: Scene) -> None:
    scene.undo.callback(scene.world.watch.start)
    scene.world.watch.kill()


def _lock_raw(scene: Scene) -> None:
    """Somebody is idle in a transaction that has locked a table of raw."""
    connection = psycopg.connect(scene.world.warehouse.url())
    scene.undo.callback(connection.close)
    connection.execute("lock table raw_game.prices in share mode")


def _take_connections(scene: Scene) -> None:
    """A role that reads gold opens connections until it gets no more."""
    for _ in range(200):
        try:
            connection = psycopg.connect(scene.world.warehouse.url("medallion_reader"), connect_timeout=10)
        except psycopg.OperationalError:
            return
        scene.undo.callback(connection.close)


def _kill_run(scene: Scene) -> None:
    """The next run of a deployment dies by SIGKILL at one step of its load."""
    prefect = scene.undo.enter_context(scene.world.prefect_client())
    found = prefect.get("/deployments/name/ingest/ingest-game").raise_for_status().json()

    def configure(variables: dict[str, object]) -> None:
        prefect.patch(f"/deployments/{found['id']}", json={"job_variables": variables}).raise_for_status()

    former = found["job_variables"]
    scene.undo.callback(configure, former)
    failpoint = {"MEDALLION_FAILPOINT": scene.chance.choice(_FAILPOINTS)}
    configure({**former, "env": {**former.get("env", {}), **failpoint}})
    crashed = "select count(*) from ops.alerts where name = 'flow run crashed' and resolved_at is null"
    scene.until(lambda: bool(scene.world.warehouse.rows(crashed)[0][0]), "a run has died")
    configure(former)


def _receiver_down(scene: Scene) -> None:
    """Nobody accepts alerts while there is something to report; the receiver is back before the fault ends."""
    receiver = scene.world.receiver
    refused = receiver.refused
    scene.undo.callback(scene.at_source, "grant select on prices to medallion_extractor")
    scene.undo.callback(setattr, receiver, "down", False)
    receiver.down = True
    scene.at_source("revoke select on prices from medallion_extractor")
    scene.until(lambda: receiver.refused >= refused + 2, "the receiver refused a message twice")
    time.sleep(scene.chance.uniform(1, 10))
    receiver.down = False


FAULTS = (
    Fault(
        "worker killed",
        "SIGKILL of the only worker",
        _kill_worker,
        ("no worker work pool local",),
        ("flow run late *", "flow run pending *", "flow run crashed *"),
        "critical",
    ),
    Fault(
        "Prefect server killed",
        "SIGKILL of the Prefect server",
        _kill_prefect,
        ("Prefect server down *",),
        ("no worker work pool local", "flow run late *", "flow run pending *", *_RUNS_FAIL),
        "critical",
    ),
    Fault(
        "warehouse crashed",
        "the warehouse stops at once, and recovers from its log",
        _crash_warehouse,
        ("warehouse down *",),
        _RUNS_FAIL,
        "critical",
    ),
    Fault(
        "watch killed",
        "SIGKILL of the watch: the dead man's switch gets no ping",
        _kill_watch,
        severity="critical",
        by_ping=True,
    ),
    Fault(
        "run killed",
        "SIGKILL of a run in the middle of a load",
        _kill_run,
        ("flow run crashed *ingest-game",),
        ("load failed game.*", "run ended early ingest game", "flow run restarted *ingest-game"),
        "error",
    ),
    Fault(
        "raw locked",
        "a session is idle in a transaction that has locked a table of raw",
        _lock_raw,
        ("load failed game.prices",),
        ("run failed ingest game",),
        # The load waits until its statement times out, and that is taken for a lack of resources.
        "critical",
    ),
    Fault("connections taken", "a reader opens as many connections as it gets", _take_connections, seconds=75),
    Fault(
        "receiver down",
        "nobody accepts alerts for a while",
        _receiver_down,
        ("load failed game.prices",),
        severity="error",
    ),
)
