"""Tables brought back to what their sources hold, with a preview: look → decide → do → prove.

Each step is one that exists on its own (load, cursor, backfill, repair, reload, replay) and is safe to repeat: it takes
the table's lock like any load, and what it does commits with its state. So a recovery that was killed is resumed by
looking again, and a scheduled load in between does a part of its work.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.access import addresses
from flows.declare.partition import partitions
from flows.declare.source import Loadable, Source
from flows.failures.diagnose import diagnose
from flows.failures.failpoints import pass_failpoint
from flows.kinds.registry import kind_of
from flows.publish.budget import without_budgets
from flows.state import active_runs, backfills, recoveries, runs
from flows.state.reconciliations import Reconciliation
from flows.values.errors import DataRefused, LoadLocked, MedallionError
from flows.values.settings import settings
from flows.verbs.backfill import backfill_partition, dividing_column
from flows.verbs.compare import compare_table
from flows.verbs.cursor import move_cursor
from flows.verbs.load import load_table
from flows.verbs.recovery import Asked, Plan, Step
from flows.verbs.recovery_preview import look, midnight, until_today
from flows.verbs.reload import request_reload
from flows.verbs.replay import replay

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Forget = Callable[[str, list[int]], Awaitable[int]]
"""Erases persons again whom these batches of a source brought back; returns how many."""

# Sources change while a person reads: an older plan is looked at again, and void if it became another one.
_VALID_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Recovered:
    """How the recovery of one table ended. `after`: both ends compared at its end; `agrees`: they hold the same, or
    the source cannot tell."""

    table: str
    plan: str
    after: Reconciliation | None = None
    forgotten: int = 0
    error: MedallionError | None = None

    @property
    def agrees(self) -> bool:
        """Whether no differences remain."""
        return self.error is None and (self.after is None or self.after.agrees)


@dataclass(frozen=True, slots=True)
class Agreed:
    """Who wants it and why, and the time of the monotonic clock at which the plan was made."""

    by: str
    reason: str
    looked_at: float


async def recover(
    plans: Sequence[Plan],
    asked: Asked,
    agreed: Agreed,
    forget: Forget,
    on_table: Callable[[Recovered], None] = lambda _: None,
) -> list[Recovered]:
    """Carry out what was shown, table by table, and compare both ends again. Tables fail alone.

    Raises:
        DataRefused: a plan that was shown longer ago than a minute would be another one now. Nothing was done.
        MedallionError: the warehouse does not answer.
    """
    if time.monotonic() - agreed.looked_at > _VALID_SECONDS:
        await _refuse_other_plans(plans, asked)
    asked = until_today(asked)
    wanted = [plan for plan in plans if plan.is_needed and plan.found.error is None]
    done: list[Recovered] = []
    async with AsyncExitStack() as opened:
        held = await opened.enter_async_context(
            addresses.connect(addresses.warehouse(), side="warehouse", application="medallion recover")
        )
        run_id = await runs.open_run(held, "recover", " ".join(plan.found.name for plan in wanted)[:200], None, None)
        await active_runs.hold_run(held, run_id)
        status = "failed"
        try:
            for plan in wanted:
                done.append(await _one(held, run_id, plan, asked, agreed, forget))
                on_table(done[-1])
            failed = any(one.error is not None for one in done)
            status = "failed" if failed else "done" if all(one.agrees for one in done) else "refused"
        finally:
            if not held.is_closed():
                await runs.close_run(held, run_id, status, None, {"tables": [one.table for one in done]})
    return done


async def _refuse_other_plans(plans: Sequence[Plan], asked: Asked) -> None:
    now = {plan.found.name: plan for plan in await look([plan.found.name for plan in plans], asked)}
    changed = [name for plan in plans if _actions(now[name := plan.found.name]) != _actions(plan)]
    if changed:
        raise DataRefused(
            f"what is to be done has changed since it was shown ({', '.join(changed)}), so nothing was done",
            where="medallion recover",
            fix="run it again, and look at the new plan",
            retryable=True,
        )


def _actions(plan: Plan) -> list[str]:
    return [step.action for step in plan.steps]


async def _one(
    held: Connection[Record], run_id: int, plan: Plan, asked: Asked, agreed: Agreed, forget: Forget
) -> Recovered:
    source, table, name = plan.found.source, plan.found.table, plan.found.name
    recovery: int | None = None
    after, forgotten, error = None, 0, None
    try:
        if not await recoveries.take_turn(held, source.name, table.name):
            raise LoadLocked(
                "another recovery of the table is running", where=name, fix="wait for it to end", retryable=True
            )
        recovery = await recoveries.open_recovery(
            held, run_id, source.name, table.name, str(plan), agreed.by, agreed.reason
        )
        _die_at("recover_began")
        try:
            for step in plan.steps:
                with without_budgets():
                    await _do(step, source, table, asked, agreed.by, run_id)
                _die_at("recover_after_step")
        finally:
            # Also what a killed recovery of the table had brought back, before its models are built.
            forgotten = await forget(source.name, await recoveries.batches(held, source.name, table.name))
        after = await compare_table(
            addresses.warehouse(), kind_of(source).address(source), source, table, run_id=run_id
        )
        _die_at("recover_before_end")
    except Exception as problem:
        error = diagnose(problem, name).error
    if recovery is not None and not held.is_closed():
        outcome = f"failed: {error.what}" if error is not None else after.result if after is not None else "done"
        await recoveries.close_recovery(held, recovery, outcome)
        await recoveries.end_turn(held, source.name, table.name)
    return Recovered(name, str(plan), after, forgotten, error)


async def _do(step: Step, source: Source, table: Loadable, asked: Asked, by: str, run_id: int) -> None:
    """One step; twice does as much as once.

    Raises:
        MedallionError: see `flows.values.errors`; what was committed before stays.
    """
    name = f"{source.name}.{table.name}"
    address, warehouse = kind_of(source).address(source), addresses.warehouse()
    match step.action:
        case "window":
            await _read_window(source, table, asked, run_id)
            return
        case "repair":
            await compare_table(warehouse, address, source, table, run_id=run_id, repair=True)
            return
        case "replay":
            await replay([name], by, run_id=run_id)
            return
        case "rewind":
            assert asked.first is not None
            await move_cursor(name, midnight(asked.first), by)
        case "reload":
            await request_reload([name], by)
        case "load":
            pass
    # Rows stamped below the cursor are found missing by the first load, and read by the second.
    for _ in range(2):
        loaded = await load_table(warehouse, address, source, table, run_id=run_id)
        if loaded.counts.reconciliation != "missing" or not table.keys:
            break


async def _read_window(source: Source, table: Loadable, asked: Asked, run_id: int) -> None:
    """Partition by partition; those that a killed recovery completed are not read again."""
    assert asked.first is not None
    assert asked.last is not None
    column = dividing_column(source, table, asked.by)
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        backfill_id, done = await backfills.open_backfill(
            warehouse, source.name, table.name, column, asked.every, (asked.first, asked.last), restart=False
        )
        for partition in partitions(asked.first, asked.last, asked.every):
            if partition.lower not in done:
                await backfill_partition(source, table, column, partition, backfill_id, run_id=run_id)
        await backfills.close_backfill(warehouse, backfill_id)


def _die_at(step: str) -> None:
    pass_failpoint(step, settings().failpoint)
