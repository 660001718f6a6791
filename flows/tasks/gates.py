"""The quality gates: contracts before dbt and after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows.access import addresses
from flows.failures.combined import combined
from flows.failures.missing_grants import missing_grants
from flows.observe.artifacts import CheckLine, checks_table_markdown
from flows.observe.progress import report
from flows.observe.tracing import span
from flows.quality import soda
from flows.state import ledger
from flows.tasks.retry import may_retry
from flows.values.errors import DataRefused, FailureClass, MedallionError, WarehouseError
from flows.values.settings import PROJECT_ROOT
from flows.values.sqlstates import Answer, explain_answer


@task(
    task_run_name="gate {gate}",
    retries=1,
    retry_delay_seconds=2,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
    persist_result=True,
    result_serializer="json",
)
def check_gate(gate: Literal["raw", "gold"], schema_prefix: str = "", held: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Run the gate's contracts. Returns every check as plain values. `schema_prefix`: of shadow schemas.

    `held` are the files of contracts that are left out, because their last result still holds.

    Gate raw checks every table that was ever loaded, even if its latest load failed: models read them all.

    Raises:
        DataRefused: no contract was found, which must not count as a pass.
    """
    began = time.monotonic()
    report(f"gate {gate}", "began")
    contracts = contracts_of(gate)
    if not contracts:
        raise DataRefused(
            "there are no tables or contracts to check",
            where=f"gate {gate}",
            fix=f"run `medallion run` if nothing was loaded yet; otherwise restore the contracts in soda/{gate}",
        )
    contracts = [path for path in contracts if str(path) not in held]
    results = soda.verify(contracts, addresses.transformer().url, gate=gate, schema_prefix=schema_prefix)
    blocking = sum(result.blocks for result in results)
    report(
        f"gate {gate}",
        "failed" if blocking else "done",
        f"{len(results)} checks, {blocking} blocking"
        + (f", {len(held)} tables unchanged" if held else "")
        + f", {time.monotonic() - began:.1f} s",
    )
    return [asdict(result) | {"blocks": result.blocks} for result in results]


def contracts_of(gate: str) -> list[Path]:
    """The gate's contracts; for gate raw, those of tables that were ever loaded."""
    paths = sorted((PROJECT_ROOT / "soda" / gate).rglob("*.yml"))
    if gate == "gold":
        return paths
    loaded = asyncio.run(_loaded())
    return [path for path in paths if (path.parent.name, path.stem) in loaded]


async def _loaded() -> set[tuple[str, str]]:
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        return await ledger.published_tables(warehouse)


def pass_gate(
    gate: Literal["raw", "gold"],
    run_id: int,
    schema_prefix: str = "",
    held: Sequence[Path] = (),
    checked: Callable[[list[dict[str, Any]]], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Check, record, show, and stop if a check is blocking.

    Contracts in `held` are left out, because their last result still holds. `checked` gets the results of the others
    before the gate stops.

    Raises:
        DataRefused: a check is blocking. WarehouseError: the tables could not be read.
    """
    with span(f"gate {gate}") as checking:
        results = check_gate(gate, schema_prefix, [str(path) for path in held])
        checking.set(checks=len(results), blocking=sum(result["blocks"] for result in results))
    asyncio.run(_record_checks(run_id, gate, results))
    checked(results)
    lines = [
        CheckLine(result["dataset"], result["check"], result["column"], result["outcome"], result["message"])
        for result in results
    ]
    create_markdown_artifact(
        key=f"gate-{gate}", markdown=checks_table_markdown(lines, gate=gate), description=f"Quality gate {gate}"
    )
    blocking = [result for result in results if result["blocks"]]
    if unanswered := {result["dataset"]: Answer(**result["answer"]) for result in blocking if result["answer"]}:
        raise _not_checked(gate, unanswered)
    if blocking:
        listed = "; ".join(
            f"{result['dataset']}: {result['check']} {result['outcome']}"
            + (f" ({result['message']})" if result["message"] else "")
            for result in blocking[:5]
        )
        more = f" and {len(blocking) - 5} more" if len(blocking) > 5 else ""
        raise DataRefused(
            f"{len(blocking)} of {len(results)} checks failed: {listed}{more}",
            where=f"gate {gate}",
            fix=f"read the contract in soda/{gate} and the rows it names; fix the data at its source, then run again",
        )
    return results


def _not_checked(gate: str, answers: dict[str, Answer]) -> MedallionError:
    """The error if the warehouse prevented the gate: its own class and fix, since nothing is known about the data."""
    address = addresses.warehouse("transformer")
    errors = {
        dataset: explain_answer(answer, dataset, role=address.user, grants=missing_grants(address, answer.message))
        for dataset, answer in answers.items()
    }
    for error in errors.values():
        if error.failure_class is FailureClass.TRANSIENT:
            error.fix = "run `medallion transform` again; a deployment does so at its next run"
    what = f"{len(errors)} dataset{'s' if len(errors) > 1 else ''} could not be checked"
    return combined(errors, what, where=f"gate {gate}", kind=WarehouseError)


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
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        await ledger.record_checks(warehouse, run_id, gate, rows)
