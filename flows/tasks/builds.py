"""One `dbt build` in this process, each node a Prefect task run, with errors that quote no row."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from flows.access import addresses
from flows.models.build_failures import Heard, build_stopped, name_of, nodes_failed
from flows.models.environment import PREFIX_VARIABLE, confined
from flows.models.lock_waits import lock_wait
from flows.models.project import DBT_PROJECT, run_dbt
from flows.models.selective.build import selection_of
from flows.observe.artifacts import NodeLine, nodes_table_markdown
from flows.observe.progress import report
from flows.observe.tracing import span
from flows.tasks.node_spans import node_spans
from flows.tasks.usage import keep_usage_of_models
from flows.values.connection import DatabaseConnection
from flows.values.errors import DataRefused, MedallionError
from flows.values.settings import settings

# Unit tests check the code, not the data: CI runs them.
_BUILD = ("build", "--exclude-resource-type", "unit_test")


def parse() -> Path | None:
    """Have dbt parse the project of the shared schemas. Returns the path of its manifest.json; None if it cannot."""
    parsed = run_dbt(["parse"], url=addresses.transformer().url, target=target_of(""), project=DBT_PROJECT)
    return None if parsed.problem else target_of("") / "manifest.json"


def build(
    *,
    select: str | None = None,
    only: Sequence[str] | None = None,
    full_refresh: bool = False,
    prefix: str = "",
) -> list[NodeLine]:
    """`dbt build` in this process; every node a Prefect task. Returns the nodes that ran.

    `select` is a user's selection with the tests of its nodes, `only` the selectors of exactly what is built; without
    either, all is. With a `prefix` the schemas begin with it, and dbt has a separate folder.

    Raises:
        DataRefused: a test failed. LoadLocked: sessions locked tables during the full wait of models.
        WarehouseError: a node could not be built.
    """
    from prefect_dbt import PrefectDbtSettings  # 3 s of imports that ingest does not need

    from flows.tasks.dbt_runner import NodeRunner

    began = time.monotonic()
    report("dbt build", "began")
    transformer = addresses.transformer()
    target = target_of(prefix)
    runner = NodeRunner(
        settings=PrefectDbtSettings(project_dir=DBT_PROJECT, profiles_dir=DBT_PROJECT, target_path=target),
        raise_on_failure=False,
    )
    arguments = [*_BUILD, "--threads", str(settings().dbt_threads)]
    arguments += ["--select", select] if select else []
    arguments += selection_of(only) if only is not None else []
    arguments += ["--full-refresh"] if full_refresh else []
    # dbt.log would contain PostgreSQL's messages, which quote rows; each node's redacted log is in its task run.
    results = target / "run_results.json"
    results.unlink(missing_ok=True)  # otherwise a build that ends early would report the previous results
    with span("dbt build"), _confined(transformer.url, target, prefix):
        try:
            result = runner.invoke(arguments, log_level_file="none")
        except Exception as problem:
            error = build_stopped(problem, transformer)
            report("dbt build", "failed", error.what)
            raise error from None
        finally:
            withhold_messages(results)
            node_spans(results)
    nodes = read_nodes(results) if results.exists() else []
    keep_usage_of_models(nodes, prefix)
    if nodes:
        create_markdown_artifact(
            key="dbt-build", markdown=nodes_table_markdown(nodes), description="Nodes of the dbt build"
        )
    if (refusal := _refusal(result.success, nodes, runner.heard, transformer)) is not None:
        report("dbt build", "failed", refusal.what)
        raise refusal
    ran = sum(node.status != "no-op" for node in nodes)
    report("dbt build", "done", f"{ran} nodes, {time.monotonic() - began:.1f} s")
    get_run_logger().info("dbt built %s nodes", ran)
    return nodes


def target_of(prefix: str) -> Path:
    """dbt's folder: one per prefix, because dbt reparses when the prefix changes."""
    return settings().home / "dbt" / prefix.rstrip("_")


def _confined(url: str, target: Path, prefix: str) -> contextlib.AbstractContextManager[None]:
    under = prefix or os.environ.get(PREFIX_VARIABLE, "")
    return confined(url, project=DBT_PROJECT, target=target, prefix=under)


def withhold_messages(run_results: Path) -> None:
    """Remove PostgreSQL's messages, which may quote rows, from dbt's run_results.json: files are copied and kept."""
    if not run_results.exists():
        return
    content = json.loads(run_results.read_text(encoding="utf-8"))
    for result in content["results"]:
        if result["status"] in {"error", "fail", "warn"}:
            result["message"] = _safe_message(result)
    run_results.write_text(json.dumps(content), encoding="utf-8")


def read_nodes(run_results: Path) -> list[NodeLine]:
    """The nodes of dbt's run_results.json, failed ones with our message."""
    results = json.loads(run_results.read_text(encoding="utf-8"))["results"]
    return [
        NodeLine(
            name=name_of(result["unique_id"]),
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
        return f"{result['failures']} failing rows"
    if result["status"] == "error" and (wait := lock_wait(result["message"] or "")) is not None:
        return wait
    return "see this node's task run" if result["status"] == "error" else ""


def _refusal(success: bool, nodes: list[NodeLine], heard: Heard, address: DatabaseConnection) -> MedallionError | None:
    errors = [node for node in nodes if node.status == "error"]
    failed = [f"{node.name} ({node.message})" for node in nodes if node.status == "fail"]
    if success and not errors and not failed:
        return None
    if failed and not errors:
        return DataRefused(
            f"{len(failed)} dbt tests failed: {', '.join(failed[:5])}",
            where="dbt build",
            fix="run the test's SQL in .medallion/dbt/compiled to see the rows; fix their source or the rule",
        )
    return nodes_failed(errors, heard, address) if errors else build_stopped(heard.ended_by, address)
