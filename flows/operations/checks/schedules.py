"""What has to happen by itself can happen: next runs are planned, and workers poll."""

from __future__ import annotations

from flows.operations.alerts import Condition
from flows.operations.checks.flow_runs import no_worker
from flows.operations.prefect_facts import PrefectFacts


async def next_runs_planned(facts: PrefectFacts) -> list[Condition]:
    """Each deployment with an active schedule has a next run: else the server's scheduler is dead."""
    waiting = {run.deployment.id for run in facts.due}
    missing = [each for each in facts.deployments if each.active and each.id not in facts.planned | waiting]
    return [
        Condition(
            "no next run",
            each.full_name,
            "critical",
            "its schedule is active, and no run is planned",
            "look for errors of the scheduler in the server's log and restart the server; then see that the schedule "
            "has a future date",
            source=each.source,
            cause="prefect: scheduler",
        )
        for each in missing
    ]


async def workers_poll(facts: PrefectFacts) -> list[Condition]:
    """Work pools of active deployments, and those in which runs wait, are polled by a worker."""
    needed = {each.pool for each in facts.deployments if each.active} | {run.pool for run in facts.due}
    return [
        Condition(
            "no worker",
            f"work pool {pool.name}",
            "critical",
            f"no worker polls it; {sum(run.pool == pool.name for run in facts.due)} runs wait",
            f"start one: `medallion worker --pool {pool.name}`",
            cause=no_worker(pool.name),
        )
        for pool in facts.pools.values()
        if pool.name in needed and not pool.polled and not pool.paused
    ]
