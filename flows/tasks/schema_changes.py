"""Prefect events about changes of a source's columns, for alerts and other automations.

    event      medallion.schema.changed
    resource   prefect.resource.id = medallion.table.shop.products, and labels source, table, column, change, applied
    payload    source, table, column, change, old_type, new_type, applied, batch_id

`applied` is "false" for a change that was refused or held back from raw. Events contain no values of rows.
"""

from __future__ import annotations

import uuid
from datetime import UTC

from prefect.events import Event, Resource
from prefect.events.clients import get_events_client
from prefect.events.schemas.events import RelatedResource
from prefect.logging import get_run_logger

from flows.access import addresses
from flows.state import schema_changes
from flows.state.schema_changes import RecordedChange
from flows.tasks import begin

EVENT = "medallion.schema.changed"

# A run must not wait long for a server that does not accept its events.
_ATTEMPTS = 2


async def announce_schema_changes(source: str) -> None:
    """Send an event per recorded change without one, including changes of killed runs.

    They are marked once the server has them. An event sent twice has the same id. If the server does not accept them,
    the run is not affected: the next one sends them.
    """
    async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
        changes = await schema_changes.not_announced(warehouse, source)
        if not changes:
            return
        try:
            async with get_events_client(reconnection_attempts=_ATTEMPTS, checkpoint_every=1) as client:
                for change in changes:
                    await client.emit(_event(change, begin.current_flow_run_id()))
        except Exception as problem:
            get_run_logger().warning(
                "%s: %d schema changes could not be announced (%s); the next run tries again",
                source,
                len(changes),
                type(problem).__name__,
            )
            return
        await schema_changes.mark_announced(warehouse, changes)


def _event(change: RecordedChange, flow_run_id: str | None) -> Event:
    facts = {
        "source": change.source,
        "table": change.table,
        "column": change.column,
        "change": change.change,
        "applied": str(change.applied).lower(),
    }
    run = {"prefect.resource.id": f"prefect.flow-run.{flow_run_id}", "prefect.resource.role": "flow-run"}
    return Event(
        id=uuid.uuid5(uuid.NAMESPACE_OID, f"{EVENT} {change.change_id} {change.changed_at.isoformat()}"),
        occurred=change.changed_at.astimezone(UTC),
        event=EVENT,
        resource=Resource(
            {
                "prefect.resource.id": f"medallion.table.{change.source}.{change.table}",
                "prefect.resource.name": f"{change.source}.{change.table}",
                **facts,
            }
        ),
        related=[RelatedResource(run)] if flow_run_id else [],
        payload={
            **facts,
            "applied": change.applied,
            "old_type": change.old_type,
            "new_type": change.new_type,
            "batch_id": change.batch_id,
        },
    )
