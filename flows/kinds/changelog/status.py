"""A source's slot and publication, and the positions of its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.declare.database import Database
from flows.kinds.answers import CaptureStatus, TablePosition
from flows.kinds.changelog import position
from flows.kinds.changelog.capture import look
from flows.state import change_counts

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_END = "select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end::text"


async def capture_status(warehouse: Connection[Record], origin: Connection[Record], source: Database) -> CaptureStatus:
    """What `medallion capture status` shows. Changes nothing."""
    capture, end = await look(origin, source), position.number(await origin.fetchval(_END))
    reached = await position.positions(warehouse, source.name, [table.name for table in source.tables])
    totals = await change_counts.totals(warehouse, source.name)
    tables = []
    for table in source.tables:
        at = reached.get(table.name)
        tables.append(
            TablePosition(
                table.name,
                None if at is None else position.text(at),
                None if at is None else max(0, end - at),
                totals.get(table.name, change_counts.Totals()),
            )
        )
    return CaptureStatus(
        source=source.name,
        slot=capture.names.slot,
        has_slot=capture.has_slot,
        lost=capture.lost,
        is_read=capture.reader is not None,
        publication=capture.names.publication if capture.has_publication else None,
        retained=capture.retained,
        limit=capture.log.limit,
        kept_at_most=capture.kept_at_most,
        problem=capture.problem,
        tables=tables,
    )
