"""All checks of the watch, by name, with how often each is made."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from flows.access import addresses
from flows.operations.alerts import Condition
from flows.operations.checks import connections, disk, expiry, flow_runs, freshness, schedules, withdrawn
from flows.operations.checks.anomalies import arrival_unusual, columns_unusual
from flows.operations.checks.captured import captured_changes_wait
from flows.operations.checks.check import Check, Need, Round
from flows.operations.checks.clock import Clocks
from flows.operations.checks.costs import cost_over_budget
from flows.operations.checks.decisions import decisions_expire
from flows.operations.checks.outbox import outbox_moves
from flows.operations.checks.tuning import changes_evaluated
from flows.operations.checks.volumes import volume_unusual
from flows.values.price import Price
from flows.values.settings import Settings, settings

_GB = 1024**3
_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)
_WAREHOUSE: frozenset[Need] = frozenset({"warehouse"})
_PREFECT: frozenset[Need] = frozenset({"prefect"})
_BOTH = _WAREHOUSE | _PREFECT


def checks(more: Iterable[Check] = (), *, told: Settings | None = None) -> tuple[Check, ...]:
    """Every check. `more` are those of other packages, such as that of backups."""
    limits = told or settings()
    late, pending = timedelta(minutes=limits.watch_late_minutes), timedelta(minutes=limits.watch_pending_minutes)
    gold, oldest = timedelta(hours=limits.watch_gold_hours), timedelta(minutes=limits.watch_transaction_minutes)
    ahead, clocks = timedelta(days=limits.watch_expiry_days), Clocks()
    return (
        Check("next runs", lambda at: schedules.next_runs_planned(at.facts), _PREFECT),
        Check("workers", lambda at: schedules.workers_poll(at.facts), _PREFECT),
        Check("ended runs", lambda at: flow_runs.ended_badly(at.facts, at.connection), _BOTH),
        Check("restarted runs", lambda at: flow_runs.restarted(at.facts), _PREFECT),
        Check("dropped runs", lambda at: flow_runs.dropped(at.facts), _PREFECT),
        Check("late runs", lambda at: flow_runs.late(at.facts, at.facts.answered_at, late), _PREFECT),
        Check("pending runs", lambda at: flow_runs.pending(at.facts, at.facts.answered_at, pending), _PREFECT),
        Check("overlapping runs", lambda at: flow_runs.overlapping(at.facts), _PREFECT),
        Check("gold", lambda at: flow_runs.gold_built(at.facts, at.connection, gold), _BOTH, _MINUTE),
        Check(
            "connections",
            lambda at: connections.connections_used(at.connection, limits.watch_connections_percent),
            _WAREHOUSE,
        ),
        Check("transactions", lambda at: connections.transactions_open(at.connection, oldest), _WAREHOUSE, _MINUTE),
        Check("disk", lambda at: _disk(at, limits), _WAREHOUSE, _MINUTE),
        Check("slots", lambda at: disk.slots(at.connection, limits.watch_slot_gb * _GB), _WAREHOUSE, _MINUTE),
        Check(
            "captured changes",
            lambda at: captured_changes_wait(at.connection, timedelta(hours=limits.watch_captured_hours)),
            _WAREHOUSE,
            _MINUTE * 5,
            patience=30,
        ),
        Check("transaction ids", lambda at: disk.transaction_ids(at.connection), _WAREHOUSE, _MINUTE * 10),
        Check(
            "Prefect database",
            lambda at: disk.prefect_database(at.connection, limits.watch_prefect_gb * _GB),
            _WAREHOUSE,
            _MINUTE * 10,
        ),
        Check("outbox", lambda at: outbox_moves(at.connection), _WAREHOUSE),
        Check("clocks", lambda at: clocks.look(at.now, at.elapsed, at.warehouse, _answered(at))),
        Check(
            "freshness",
            # Without the server's word, all sources count as active.
            lambda at: freshness.late(at.connection, active=at.prefect.active_sources if at.prefect else None),
            _WAREHOUSE,
            _MINUTE,
        ),
        Check("withdrawn tables", lambda at: withdrawn.resolve_withdrawn(at.connection), _WAREHOUSE, _HOUR),
        Check("decisions", lambda at: decisions_expire(at.connection), _WAREHOUSE, _MINUTE),
        Check("volumes", lambda at: volume_unusual(at.connection, at.now), _WAREHOUSE, _HOUR),
        Check("columns", lambda at: columns_unusual(at.connection, at.now), _WAREHOUSE, _HOUR, patience=30),
        Check("arrivals", lambda at: arrival_unusual(at.connection, at.now), _WAREHOUSE, _MINUTE * 10),
        Check(
            "cost",
            lambda at: cost_over_budget(
                at.connection, at.now, limits.cost_budget, limits.price_currency, Price.declared()
            ),
            _WAREHOUSE,
            _HOUR,
        ),
        Check("tuning", lambda at: changes_evaluated(at.connection, at.now), _WAREHOUSE, _HOUR),
        Check("passwords", lambda at: expiry.passwords(at.connection, at.now, ahead), _WAREHOUSE, _HOUR),
        Check(
            "certificates",
            lambda at: _certificates(at, ahead),
            every=_HOUR,
            patience=20,
        ),
        *more,
    )


async def _certificates(at: Round, ahead: timedelta) -> list[Condition]:
    urls = await at.urls() if at.urls is not None else {}
    endpoints = [expiry.endpoint(name, url) for name, url in urls.items()]
    return await expiry.certificates([each for each in endpoints if each is not None], at.now, ahead)


async def _disk(at: Round, limits: Settings) -> list[Condition]:
    """The embedded cluster's disk is this machine's; that of another server is declared, or not known."""
    stack = addresses.embedded_stack()
    if stack is not None and limits.warehouse_url is None:
        return await disk.disk_of_folder(Path(str(stack["home"])), limits.watch_disk_percent)
    if limits.watch_warehouse_gb is None:
        return []
    return await disk.disk_declared(at.connection, limits.watch_warehouse_gb * _GB, limits.watch_disk_percent)


def _answered(at: Round) -> datetime | None:
    return None if at.prefect is None else at.prefect.answered_at
