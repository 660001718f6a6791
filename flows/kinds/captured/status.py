"""What waits in the change tables of a PostgreSQL source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.declare.database import Database
from flows.kinds.answers import TriggeredTable, TriggerStatus
from flows.kinds.captured.setup import undeclared
from flows.kinds.captured.state import declared, look
from flows.values.errors import MedallionError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_WAITING = """
select count(*) as rows, extract(epoch from clock_timestamp() - min(capture_at))::float8 as age,
    coalesce(bool_or(capture_op = 'L'), false) as stopped
from {changes}
"""


async def capture_status(origin: Connection[Record], source: Database) -> TriggerStatus:
    """What `medallion capture status` shows. Changes nothing."""
    tables = []
    for table in source.tables:
        try:
            state = await look(origin, source, table)
        except MedallionError as refused:
            if refused.retryable:
                raise
            # The others are shown all the same.
            tables.append(TriggeredTable(table.name, 0, 0, None, refused.what))
            continue
        problem, rows, age = state.problem, 0, None
        if state.has_changes and state.may_read:
            row = await origin.fetchrow(_WAITING.format(changes=state.names.changes))
            assert row is not None  # an aggregate always answers one row
            rows, age = row["rows"], row["age"]
            if row["stopped"] and problem is None:
                problem = "larger than max_waiting: recording has stopped; the next load reads the table in full"
        tables.append(TriggeredTable(table.name, rows, state.size, age, problem))
    for names in await undeclared(origin, source):
        size = await origin.fetchval("select pg_table_size(to_regclass($1))", names.changes)
        tables.append(TriggeredTable(names.base, 0, size, None, "recorded, and no longer declared"))
    return TriggerStatus(source.name, declared(source).limit, tables)
