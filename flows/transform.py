"""Story: gate raw → snapshots, silver, gold and their tests, by dbt → gate gold.

dbt runs once per process, through PrefectDbtRunner: every node is a task run with its own state and log.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from flows import connections, lineage_events, tasks
from flows.dbt.colours import PREVIOUS, READERS_SCHEMA, label_of
from flows.dbt.fingerprint import fingerprint
from flows.dbt.project import DBT_PROJECT, PREFIX_VARIABLE, dbt_environment
from flows.observe import sentry
from flows.observe.artifacts import CheckLine, NodeLine, checks_table_markdown, nodes_table_markdown
from flows.observe.logs import correlated
from flows.observe.progress import report
from flows.recovery.failures import diagnose
from flows.settings import settings
from flows.spec.errors import DataRefused, MedallionError, WarehouseError
from flows.state import dbt_manifests, ledger, releases, runs
from flows.state.transform_lock import transform_lock

# Unit tests prove the code, not the data: CI runs them.
_BUILD = ("build", "--exclude-resource-type", "unit_test")


@flow(name="transform", flow_run_name="transform", result_serializer="json", persist_result=True)
def transform(select: str | None = None, full_refresh: bool = False) -> dict[str, Any]:
    """Build silver and gold from raw, between the two gates. Returns counts of nodes and checks.

    `select` is dbt's selection; the gold gate then is left out. Another transform of the same warehouse is waited for.

    Raises:
        DataRefused: a gate is closed, or a test of dbt's found data that breaks a rule; or these models may not be
            built into the shared schemas, because they were withdrawn or wait for a release.
        LoadLocked: another transform was running all the while we waited.
        WarehouseError: dbt could not build.
    """
    tasks.begin()
    return recorded("transform", lambda run_id: _in_place(run_id, select, full_refresh), settings().home / "dbt")


def _in_place(run_id: int, select: str | None, full_refresh: bool) -> dict[str, Any]:
    models = fingerprint(DBT_PROJECT)
    asyncio.run(_refuse_unreleased(models))
    raw = pass_gate("raw", run_id)
    nodes = build(select=select, full_refresh=full_refresh)
    if select is None:
        asyncio.run(_keep_manifest(run_id))
    gold = pass_gate("gold", run_id) if select is None else []
    facts: dict[str, Any] = {"nodes": len(nodes), "checks": len(raw) + len(gold), "models": models}
    return facts | {"whole": True} if select is None and not os.environ.get(PREFIX_VARIABLE) else facts


def recorded(pipeline: str, work: Callable[[int], dict[str, Any]], target: Path) -> dict[str, Any]:
    """Do the work under the transform's lock, as a run in `ops.runs` and in lineage; `target` is dbt's folder for it.

    `work` is handed the run's number; what it returns is kept with the run.

    Raises:
        LoadLocked: another transform was running all the while we waited.
        MedallionError: what the work raised.
    """
    tasks.ensure_operations()
    with (
        correlated() as correlation_id,
        transform_lock(connections.transformer(), wait_seconds=settings().lock_wait_seconds),
    ):
        run_id = asyncio.run(_open(pipeline, correlation_id))
        lineage = lineage_events.lineage_run(pipeline, tasks.current_flow_run_id(), run_id)
        asyncio.run(lineage_events.tell("START", lineage))
        began = time.time()
        try:
            facts = work(run_id)
        except Exception as problem:
            failure = diagnose(problem, pipeline)
            sentry.capture(failure.error)
            asyncio.run(_close(run_id, failure.status, failure.facts(run_id, None)))
            asyncio.run(lineage_events.tell_build(lineage, target, since=began))
            asyncio.run(lineage_events.tell("FAIL", lineage, failure.error))
            raise failure.error from None
        asyncio.run(_close(run_id, "done", None, facts))
        asyncio.run(lineage_events.tell_build(lineage, target, since=began))
        asyncio.run(lineage_events.tell("COMPLETE", lineage))
        return facts


async def _open(pipeline: str, correlation_id: str) -> int:
    async with connections.connect(connections.warehouse(), side="warehouse") as warehouse:
        # We hold the lock: whatever says it is running is not.
        await runs.close_dead_runs(warehouse, pipeline, "", [])
        return await runs.open_run(warehouse, pipeline, "", tasks.current_flow_run_id(), correlation_id)


async def _refuse_unreleased(models: str) -> None:
    """Models that were withdrawn, or that wait for a release, are not built where readers look."""
    if os.environ.get(PREFIX_VARIABLE):
        return
    async with connections.connect(connections.warehouse(), side="warehouse") as warehouse:
        in_force = (await label_of(warehouse, READERS_SCHEMA)).get("release")
        await releases.settle(
            warehouse, in_force, (await label_of(warehouse, PREVIOUS + READERS_SCHEMA)).get("release")
        )
        withdrawn = await releases.withdrawn(warehouse, models)
        had = await releases.models_in_force(warehouse)
    if withdrawn is not None:
        raise DataRefused(
            f"these models are release {withdrawn.release_id}, which {withdrawn.by} withdrew on "
            f"{withdrawn.at:%Y-%m-%d %H:%M} UTC",
            where="transform",
            next_move="deploy the earlier code, or mend the models and run `medallion transform --release`",
        )
    if settings().models_by_release and had not in (None, models):
        raise DataRefused(
            "these models differ from those that readers have, and here models change by a release",
            where="transform",
            next_move="run `medallion transform --release`, which builds and judges them beside gold",
        )


async def _close(run_id: int, status: str, failure: dict[str, Any] | None, facts: dict[str, Any] | None = None) -> None:
    async with connections.connect(connections.warehouse(), side="warehouse") as warehouse:
        if failure is not None:
            await ledger.record_error(warehouse, failure)
        await runs.close_run(warehouse, run_id, status, failure["error_id"] if failure else None, facts)


async def _keep_manifest(run_id: int) -> None:
    """What was built, for those who build beside it: `medallion dev`, pull requests."""
    if os.environ.get(PREFIX_VARIABLE):
        return  # a build beside the shared one is nothing to stand on
    manifest = settings().home / "dbt" / "manifest.json"
    async with connections.connect(connections.warehouse(), side="warehouse") as warehouse:
        await dbt_manifests.keep_manifest(warehouse, run_id, manifest.read_bytes())


def preload_dbt() -> None:
    """Import dbt now. What cannot be imported says so where it is used."""
    for module in ("prefect_dbt", "dbt.adapters.postgres"):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)


def pass_gate(gate: Literal["raw", "gold"], run_id: int, schema_prefix: str = "") -> list[dict[str, Any]]:
    """Check, record, show, and stop where a check blocks.

    Raises:
        DataRefused: a check blocks.
    """
    results = tasks.check_gate(gate, schema_prefix)
    asyncio.run(_record_checks(run_id, gate, results))
    lines = [
        CheckLine(result["dataset"], result["check"], result["column"], result["outcome"], result["message"])
        for result in results
    ]
    create_markdown_artifact(
        key=f"gate-{gate}", markdown=checks_table_markdown(lines, gate=gate), description=f"Quality gate {gate}"
    )
    blocking = [result for result in results if result["blocks"]]
    if blocking:
        listed = "; ".join(
            f"{result['dataset']}: {result['check']} {result['outcome']}"
            + (f" ({result['message']})" if result["message"] else "")
            for result in blocking[:5]
        )
        more = f" and {len(blocking) - 5} more" if len(blocking) > 5 else ""
        raise DataRefused(
            f"{len(blocking)} of {len(results)} checks do not pass: {listed}{more}",
            where=f"gate {gate}",
            next_move=f"read the contract in soda/{gate} and the rows it names; mend the data at its source, run again",
        )
    return results


async def _record_checks(run_id: int, gate: str, results: list[dict[str, Any]]) -> None:
    rows = [
        (
            result["dataset"],
            result["check"],
            result["column"],
            result["outcome"],
            "" if result["measured"] is None else str(result["measured"]),
            result["message"],
        )
        for result in results
    ]
    async with connections.connect(connections.warehouse(), side="warehouse") as warehouse:
        await ledger.record_checks(warehouse, run_id, gate, rows)


def build(*, select: str | None = None, full_refresh: bool = False, prefix: str = "") -> list[NodeLine]:
    """`dbt build` in this process; every node a Prefect task. Returns the nodes that ran.

    With a `prefix` the schemas begin with it, and dbt's folder is one of its own.

    Raises:
        DataRefused: a test failed. WarehouseError: a node could not be built.
    """
    from prefect_dbt import PrefectDbtSettings  # 3 s of imports that ingest need not pay

    from flows.dbt_runner import NodeRunner

    began = time.monotonic()
    report("dbt build", "began")
    os.environ.update(dbt_environment(connections.transformer().url))
    target = target_of(prefix)
    target.mkdir(parents=True, exist_ok=True)
    runner = NodeRunner(
        settings=PrefectDbtSettings(project_dir=DBT_PROJECT, profiles_dir=DBT_PROJECT, target_path=target),
        raise_on_failure=False,
    )
    arguments = [*_BUILD, "--threads", str(settings().dbt_threads)]
    arguments += ["--select", select] if select else []
    arguments += ["--full-refresh"] if full_refresh else []
    # dbt.log would hold PostgreSQL's messages, rows and all; each node's log is in its task run, redacted.
    with _schemas_under(prefix):
        result = runner.invoke(arguments, log_level_file="none")
    results = target / "run_results.json"
    withhold_messages(results)
    nodes = read_nodes(results) if result.exception is None else []
    if nodes:
        create_markdown_artifact(
            key="dbt-build", markdown=nodes_table_markdown(nodes), description="Nodes of the dbt build"
        )
    _judge(result.success, nodes, type(result.exception).__name__ if result.exception else None)
    report("dbt build", "done", f"{len(nodes)} nodes, {time.monotonic() - began:.1f} s")
    get_run_logger().info("dbt built %s nodes", len(nodes))
    return nodes


def target_of(prefix: str) -> Path:
    """dbt's folder: one for each prefix, because dbt parses anew whenever the prefix differs."""
    return settings().home / "dbt" / prefix.rstrip("_")


@contextlib.contextmanager
def _schemas_under(prefix: str) -> Iterator[None]:
    if not prefix:
        yield
        return
    before = os.environ.get(PREFIX_VARIABLE)
    os.environ[PREFIX_VARIABLE] = prefix
    try:
        yield
    finally:
        os.environ.pop(PREFIX_VARIABLE)
        if before is not None:
            os.environ[PREFIX_VARIABLE] = before


def withhold_messages(run_results: Path) -> None:
    """Take PostgreSQL's messages, which may quote rows, out of dbt's run_results.json: files are copied and kept."""
    if not run_results.exists():
        return
    content = json.loads(run_results.read_text(encoding="utf-8"))
    for result in content["results"]:
        if result["status"] in {"error", "fail", "warn"}:
            result["message"] = _safe_message(result)
    run_results.write_text(json.dumps(content), encoding="utf-8")


def read_nodes(run_results: Path) -> list[NodeLine]:
    """The nodes of dbt's run_results.json, failed ones with a message of ours."""
    results = json.loads(run_results.read_text(encoding="utf-8"))["results"]
    return [
        NodeLine(
            name=result["unique_id"].split(".", 2)[2],
            kind=result["unique_id"].split(".", 1)[0],
            status=result["status"],
            seconds=result["execution_time"],
            rows=(result.get("adapter_response") or {}).get("rows_affected"),
            message=_safe_message(result),
        )
        for result in results
    ]


def _safe_message(result: dict[str, Any]) -> str:
    if result["status"] == "fail":
        return f"{result['failures']} rows fail"
    return "see this node's task run" if result["status"] == "error" else ""


def _judge(success: bool, nodes: list[NodeLine], exception: str | None) -> None:
    errors = [node.name for node in nodes if node.status == "error"]
    failed = [f"{node.name} ({node.message})" for node in nodes if node.status == "fail"]
    if success and not errors and not failed:
        return
    error: MedallionError
    if failed and not errors:
        error = DataRefused(
            f"{len(failed)} dbt tests failed: {', '.join(failed[:5])}",
            where="dbt build",
            next_move="run the test's SQL in .medallion/dbt/compiled to see the rows; mend their source, or the rule",
        )
    else:
        what = f"nodes could not be built: {', '.join(errors[:5])}" if errors else f"dbt stopped with {exception}"
        error = WarehouseError(
            what,
            where="dbt build",
            next_move="read the node's task run, mend the model, run `medallion transform`",
        )
    report("dbt build", "failed", error.what)
    raise error
