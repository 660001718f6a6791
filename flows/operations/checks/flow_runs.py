"""Flow runs of deployments: those that failed, crashed, were cancelled or dropped, are late, stay pending, or overlap.

A run that began tells of its end in the ledger, whose triggers raise alerts that say more. Here are those that it does
not know: a process that was killed, infrastructure that did not start, a run that nobody took.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flows.operations.alerts import Condition
from flows.operations.prefect_facts import FlowRun, PrefectFacts

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_BAD = {
    "FAILED": ("flow run failed", "error"),
    "CRASHED": ("flow run crashed", "error"),
    "CANCELLED": ("flow run cancelled", "warning"),
}
_LATE_IS_ERROR = 4


async def ended_badly(facts: PrefectFacts, connection: Connection[Record]) -> list[Condition]:
    """Deployments whose last run failed, crashed or was cancelled, and of which the ledger has not told."""
    bad = {run.id: run for run in facts.ended.values() if run.type in _BAD}
    dropped = {run.id for run in facts.dropped}
    told = await connection.fetch(
        "select flow_run_id from ops.runs where flow_run_id = any($1::text[]) and status in ('failed', 'refused')",
        [*bad],
    )
    known = {row["flow_run_id"] for row in told} | dropped
    return [
        _condition(
            run, *_BAD[run.type], f"its last run ended {run.state} at {run.since:%Y-%m-%d %H:%M} UTC: run {run.id}"
        )
        for run in bad.values()
        if run.id not in known and not run.message.startswith("Deployment concurrency limit reached")
    ]


async def restarted(facts: PrefectFacts) -> list[Condition]:
    """Deployments with a run that crashed lately, and was started again: nothing is lost, but something is wrong."""
    times = Counter(each.id for each, _ in facts.crashed)
    found = []
    for each in {each.id: each for each, _ in facts.crashed}.values():
        what = f"runs crashed {times[each.id]} times in the last 15 minutes, and were started again"
        fix = "their process, machine or worker died: look for lack of memory, evicted nodes, images that do not start"
        found.append(Condition("flow run restarted", each.full_name, "warning", what, fix, source=each.source))
    return found


async def dropped(facts: PrefectFacts) -> list[Condition]:
    """Deployments of which a run was dropped lately, because another one was active."""
    times = Counter(run.deployment.full_name for run in facts.dropped)
    return [
        Condition(
            "flow run dropped",
            name,
            "warning",
            f"{count} runs were dropped in the last 15 minutes: another run of the deployment was active",
            "nothing for scheduled runs; start a run again that was requested by hand",
        )
        for name, count in times.items()
    ]


async def late(facts: PrefectFacts, now: datetime, longest: timedelta) -> list[Condition]:
    """Deployments with a run that should have begun so long ago."""
    first = _first_of([run for run in facts.due if now - run.expected > longest])
    found = []
    for run in first.values():
        pool = facts.pools.get(run.pool)
        away = pool is not None and not pool.polled
        severity = "error" if now - run.expected > _LATE_IS_ERROR * longest else "warning"
        what = f"a run should have begun at {run.expected:%Y-%m-%d %H:%M} UTC, and has not: run {run.id}"
        fix = (
            f"start a worker: `medallion worker --pool {run.pool}`"
            if away
            else "see whether its pool or queue is paused, its concurrency limit used up, or its worker stuck"
        )
        found.append(_condition(run, "flow run late", severity, what, fix, no_worker(run.pool) if away else None))
    return found


async def pending(facts: PrefectFacts, now: datetime, longest: timedelta) -> list[Condition]:
    """Deployments with a run that a worker took so long ago, and that has not begun."""
    stuck = [run for run in facts.begun if run.type == "PENDING" and now - run.since > longest]
    return [
        _condition(
            run,
            "flow run pending",
            "warning",
            f"a worker took a run at {run.since:%Y-%m-%d %H:%M} UTC, and it has not begun: run {run.id}",
            f"its worker died, or its infrastructure does not start: `prefect flow-run cancel {run.id}`",
        )
        for run in _first_of(stuck).values()
    ]


async def overlapping(facts: PrefectFacts) -> list[Condition]:
    """Deployments with more runs in progress than they may have at once: one, unless it is declared."""
    running: dict[str, list[FlowRun]] = defaultdict(list)
    for run in facts.begun:
        if run.type == "RUNNING":
            running[run.deployment.id].append(run)
    return [
        _condition(
            runs[0],
            "flow runs overlap",
            "warning",
            f"{len(runs)} runs are in progress: {', '.join(run.id for run in runs[:5])}",
            "cancel all but the oldest; deploy again (`medallion deploy`), which limits how many there may be at once",
        )
        for runs in running.values()
        if len(runs) > runs[0].deployment.at_once
    ]


async def gold_built(facts: PrefectFacts, connection: Connection[Record], longest: timedelta) -> list[Condition]:
    """Transform completes often enough, where it starts by itself."""
    if not any(each.name == "transform" and each.active for each in facts.deployments):
        return []
    row = await connection.fetchrow(
        "select max(finished_at) filter (where status = 'done') as built, min(started_at) as first "
        "from ops.runs where pipeline = 'transform'"
    )
    assert row is not None
    since: datetime | None = row["built"] or row["first"]
    moment: datetime = await connection.fetchval("select clock_timestamp()")
    if since is None or moment - since < longest:
        return []
    return [
        Condition(
            "gold not built",
            "transform",
            "critical",
            f"no transform has completed since {since:%Y-%m-%d %H:%M} UTC",
            "read the alerts of its runs, of gates and of models; `medallion transform` builds it now",
        )
    ]


def no_worker(pool: str) -> str:
    """The cause of what happens without a worker."""
    return f"prefect: no worker in {pool}"


def _condition(
    run: FlowRun, name: str, severity: str, what: str, fix: str | None = None, cause: str | None = None
) -> Condition:
    usual = "read the run's log in Prefect; if its process was killed, look for lack of memory; then run it again"
    source = run.deployment.source
    return Condition(name, run.deployment.full_name, severity, what, fix or usual, source=source, cause=cause)


def _first_of(runs: list[FlowRun]) -> Mapping[str, FlowRun]:
    """The run of each deployment that waits longest."""
    first: dict[str, FlowRun] = {}
    for run in sorted(runs, key=lambda run: min(run.expected, run.since)):
        first.setdefault(run.deployment.id, run)
    return first
