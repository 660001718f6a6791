"""Prefect events about loads after which both ends do not hold the same, for alerts and other automations.

    event      medallion.load.differs
    resource   prefect.resource.id = medallion.table.shop.products, and labels source, table, result
    payload    source, table, result (missing, extra, duplicate), what, source_rows, raw_rows, quarantine_rows, batch_id

Events contain no values of rows.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from prefect.events import Event, Resource
from prefect.events.clients import get_events_client
from prefect.events.schemas.events import RelatedResource
from prefect.logging import get_run_logger

from flows.tasks import begin
from flows.values.plan import LoadCounts
from flows.values.result_words import in_words

EVENT = "medallion.load.differs"

# A run must not wait long for a server that does not accept its events.
_ATTEMPTS = 2


async def announce_differences(loads: Iterable[Mapping[str, Any]]) -> None:
    """Send an event per load, of those that `LoadResult` describes as plain values, that is no match.

    If the server does not accept them, the run is not affected: its log, its artifact and `medallion status` tell them.
    """
    told = [event for load in loads if (event := _event(load, begin.current_flow_run_id())) is not None]
    if not told:
        return
    try:
        async with get_events_client(reconnection_attempts=_ATTEMPTS, checkpoint_every=1) as client:
            for event in told:
                await client.emit(event)
    except Exception as problem:
        get_run_logger().warning("%d results could not be announced (%s)", len(told), type(problem).__name__)


def _event(load: Mapping[str, Any], flow_run_id: str | None) -> Event | None:
    counts = LoadCounts(**load["counts"])
    what = in_words(counts)
    if what is None:
        return None
    facts = {"source": str(load["source"]), "table": str(load["table"]), "result": str(counts.reconciliation)}
    run = {"prefect.resource.id": f"prefect.flow-run.{flow_run_id}", "prefect.resource.role": "flow-run"}
    return Event(
        id=uuid.uuid5(uuid.NAMESPACE_OID, f"{EVENT} {facts['source']} {load['batch_id']} {flow_run_id}"),
        event=EVENT,
        resource=Resource(
            {
                "prefect.resource.id": f"medallion.table.{facts['source']}.{facts['table']}",
                "prefect.resource.name": f"{facts['source']}.{facts['table']}",
                **facts,
            }
        ),
        related=[RelatedResource(run)] if flow_run_id else [],
        payload={
            **facts,
            "what": what,
            "source_rows": counts.source_rows,
            "raw_rows": counts.raw_rows,
            "quarantine_rows": counts.quarantine_rows,
            "batch_id": load["batch_id"],
        },
    )


def worst(statuses: list[str]) -> str:
    """`failed` before `refused` before `rescheduled` before `stopped` before `done`."""
    return next(status for status in ("failed", "refused", "rescheduled", "stopped", "done") if status in statuses)
