"""Change tables at sources with triggers: how large they are, and whether changes are recorded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from flows.declare.source import Source
from flows.kinds.answers import TriggerStatus
from flows.kinds.registry import kind_of
from flows.operations.alerts import Condition
from flows.sources import SOURCES
from flows.values.errors import MedallionError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_NAME = "captured changes wait"
_MB = 1e6


async def captured_changes_wait(
    warehouse: Connection[Record], oldest: timedelta, sources: Sequence[Source] = SOURCES
) -> list[Condition]:
    """Change tables with a row older than `oldest`, larger than half of their limit, or to which nothing is recorded.

    A source that does not answer is left to its loads, which fail.
    """
    found: list[Condition] = []
    for source in sources:
        kind = kind_of(source)
        if not (kind.captures and kind.asks_before_capture):
            continue
        where = f"source {source.name}"
        try:
            async with kind.open(source, kind.address(source), where, "medallion watch") as origin:
                status = await kind.capture_status(warehouse, source, origin)
        except MedallionError:
            continue
        if isinstance(status, TriggerStatus):
            found += conditions(status, oldest)
    return found


def conditions(status: TriggerStatus, oldest: timedelta) -> list[Condition]:
    """What is wrong with the change tables of one source."""
    found = []
    for table in status.tables:
        where, size = f"{status.source}.{table.table}", f"{table.size / _MB:,.0f} MB"
        if table.problem is not None:
            what, severity = table.problem, "error"
            fix = f"`medallion capture setup {status.source}`, then `medallion run {where}`, which reads it in full"
        elif table.size > status.limit / 2:
            what, severity = f"the change table has {size}; recording stops at {status.limit / _MB:,.0f} MB", "error"
            fix = f"`medallion run {where}` loads and empties it"
        elif table.oldest is not None and table.oldest > oldest.total_seconds():
            what, severity = f"its oldest row waits for {table.oldest / 3600:,.1f} hours ({size})", "warning"
            fix = f"see why {where} is not loaded: `medallion status`, then `medallion run {where}`"
        else:
            continue
        found.append(Condition(_NAME, f"captured {where}", severity, what, fix))
    return found
