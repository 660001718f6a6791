"""Flow predict: train on gold → evaluate on the holdout → publish a version with its scores, or refuse it.

It writes only schema `ml`. The next transform loads the newest version's scores into silver.
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
from flows.observe.model_card import model_card_markdown
from flows.observe.progress import report
from flows.scoring.churn import CHURN, Trained, refuse_below, train
from flows.scoring.registry import Version, register
from flows.tasks import begin
from flows.tasks.runs import model_run


@flow(name="predict", flow_run_name="predict", result_serializer="json", persist_result=True)
def predict() -> dict[str, Any]:
    """Train the churn model, and publish its scores; returns the version and its metrics.

    The same gold gives the same version, and nothing is written. It waits for a running transform.

    Raises:
        DataRefused: the model is worse than its floor, or there is too little data; published scores are kept.
        LoadLocked: a transform was running during the full wait.
        WarehouseError: gold, or schema ml, does not exist.
    """
    begin.begin()
    with model_run("predict") as run:
        try:
            run.details = facts = train_and_publish()
        except Exception as problem:
            report(f"model {CHURN.name}", "failed", diagnose(problem, "predict").error.what)
            raise
    return facts


@task(name="train and publish", cache_policy=NO_CACHE, persist_result=True, result_serializer="json")
def train_and_publish() -> dict[str, Any]:
    """Fit, evaluate, and write version and scores in one transaction. Raises the same as `predict`."""
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
    what = f"version {version.number}" if version.is_new else f"version {version.number} is up to date"
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
