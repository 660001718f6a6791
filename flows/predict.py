"""Story: train on gold → judge on the holdout → publish a version with its scores, or refuse it.

It writes schema `ml` and nothing else. The next transform takes the newest version's scores into silver.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows.access import addresses
from flows.failures.diagnose import diagnose
from flows.observe import sentry
from flows.observe.logs import correlated
from flows.observe.model_card import model_card_markdown
from flows.observe.progress import report
from flows.scoring.churn import CHURN, Trained, refuse_below, train
from flows.scoring.registry import Version, register
from flows.state import ledger, runs
from flows.state.transform_lock import transform_lock
from flows.tasks import begin
from flows.tasks.stopped import close_stopped_run
from flows.values.settings import settings


@flow(name="predict", flow_run_name="predict", result_serializer="json", persist_result=True)
def predict() -> dict[str, Any]:
    """Train the churn model anew, and publish its scores; returns the version and how good it is.

    On the same gold the same version comes out, and nothing is written. A transform that is running is waited for.

    Raises:
        DataRefused: the model is worse than its floor, or there is too little to learn from; published scores stay.
        LoadLocked: a transform was running all the while we waited.
        WarehouseError: gold, or schema ml, is not there.
    """
    begin.begin()
    begin.ensure_operations()
    with (
        correlated() as correlation_id,
        transform_lock(addresses.warehouse(), wait_seconds=settings().lock_wait_seconds),
    ):
        run_id = asyncio.run(_open(correlation_id))
        try:
            facts = train_and_publish()
        except Exception as problem:
            failure = diagnose(problem, "predict")
            sentry.capture(failure.error)
            report(f"model {CHURN.name}", "failed", failure.error.what)
            asyncio.run(_close(run_id, failure.status, failure.facts(run_id, None)))
            raise failure.error from None
        except BaseException as stop:
            asyncio.run(close_stopped_run(run_id, stop, "predict"))
            raise
        asyncio.run(_close(run_id, "done", None, facts))
        return facts


@task(name="train and publish", cache_policy=NO_CACHE, persist_result=True, result_serializer="json")
def train_and_publish() -> dict[str, Any]:
    """Fit, judge, and write version and scores in one transaction. Raises what `predict` raises."""
    began = time.monotonic()
    report(f"model {CHURN.name}", "began")
    trained, version = asyncio.run(_train_and_register())
    create_markdown_artifact(
        key=f"model-{CHURN.name}",
        markdown=model_card_markdown(
            CHURN.name,
            version.number,
            version.status,
            (trained.first_day, trained.as_of),
            trained.holdout,
            trained.metrics,
            trained.parameters["weights"],
        ),
        description=f"Version {version.number} of the model {CHURN.name}",
    )
    if (refusal := refuse_below(trained, CHURN)) is not None:
        raise refusal
    what = f"version {version.number}" if version.is_new else f"version {version.number} stands: nothing has changed"
    report(
        f"model {CHURN.name}",
        "done",
        f"{what}, {len(trained.households):,} households, AUC {trained.metrics['auc']:.3f}, "
        f"{time.monotonic() - began:.1f} s",
    )
    return {
        "model": CHURN.name,
        "version": version.number,
        "is_new": version.is_new,
        "as_of": trained.as_of.isoformat(),
        "households": len(trained.households),
        "metrics": trained.metrics,
        "weights": trained.parameters["weights"],
    }


async def _train_and_register() -> tuple[Trained, Version]:
    async with addresses.connect(addresses.warehouse("transformer"), side="warehouse") as warehouse:
        trained = await train(warehouse, CHURN)
        status = "published" if refuse_below(trained, CHURN) is None else "refused"
        return trained, await register(warehouse, CHURN, trained, status)


async def _open(correlation_id: str) -> int:
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        await runs.close_dead_runs(warehouse, "predict", "", [])
        return await runs.open_run(warehouse, "predict", "", begin.current_flow_run_id(), correlation_id)


async def _close(run_id: int, status: str, failure: dict[str, Any] | None, facts: dict[str, Any] | None = None) -> None:
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        if failure is not None:
            await ledger.record_error(warehouse, failure)
        await runs.close_run(warehouse, run_id, status, failure["error_id"] if failure else None, facts)
