"""Local times in a column without time zone whose zone is not declared: noticed, and refused where they are evident.

West of UTC a local time is hours behind the source's clock, and a cursor in UTC is ahead of rows still to come.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flows.declare.cursor import Timestamp
from flows.declare.table import Table
from flows.values.errors import SourceError
from flows.values.identifiers import quote_identifier
from flows.values.plan import CursorState
from flows.values.shape import Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Zones of those who write: declared for a role or the database; and the zone of the server's log, which initdb takes
# from the machine like the server's own, and which our session does not override.
_ZONES = """
with declared as (
    select split_part(c.setting, '=', 2) as zone, case
        when s.setrole = 0 then 'the database''s setting' else 'the setting of role ' || s.setrole::regrole::text
    end as whose
    from pg_db_role_setting as s
    cross join unnest(s.setconfig) as c (setting)
    where
        c.setting ilike 'timezone=%'
        and s.setdatabase in (0, (select d.oid from pg_database as d where d.datname = current_database()))
        and (s.setrole = 0 or s.setrole in (select r.oid from pg_roles as r
            where has_table_privilege(r.oid, to_regclass($1), 'insert, update')))
    union all
    select current_setting('log_timezone'), 'the server''s log_timezone'
)
select d.zone, d.whose, c.now at time zone 'UTC' as utc, c.now at time zone d.zone as local
from declared as d
cross join (select clock_timestamp() as now) as c
-- Offsets such as -5 mean the opposite here.
where d.zone ~ '^[A-Za-z]' and c.now at time zone d.zone <> c.now at time zone 'UTC'
order by c.now at time zone d.zone, d.whose
"""
# Whether the newest value is found without reading the table: by an index, or because the table is small.
_IS_CHEAP = """
select c.relkind = 'r' and (c.relpages <= $3 and pg_relation_size(c.oid) <= $3 * 8192 or exists (
    select from pg_index as i
    inner join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    inner join pg_class as x on x.oid = i.indexrelid
    inner join pg_am as m on m.oid = x.relam
    where i.indrelid = c.oid and a.attname = $2 and i.indisvalid and i.indpred is null and m.amname = 'btree'
))
from pg_class as c where c.oid = to_regclass($1)
"""
_FEW_PAGES = 128
# A row written so shortly ago by the clock of a zone, and not by the one of UTC, is evidence.
_JUST_NOW = timedelta(minutes=10)
_AHEAD = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class LocalTimes:
    """What was noticed: a `warning`, and the `newest` value (None: unknown, or the zone is declared or not needed)."""

    warning: str | None = None
    newest: datetime | None = None
    is_known: bool = False

    @property
    def seen(self) -> dict[str, str | None]:
        """What is stored with the cursor."""
        return {"newest": self.newest.isoformat() if self.newest else None} if self.is_known else {}

    def behind(self, cursor: Timestamp, state: CursorState) -> str | None:
        """Whether rows were written since the last load that the stored cursor hides: the newest value is newer than it
        was, and yet older than the cursor."""
        if self.newest is None or state.value is None or "newest" not in state.identity:
            return None
        was = state.identity["newest"]
        if was is not None and self.newest <= datetime.fromisoformat(was):
            return None
        if self.newest >= datetime.fromisoformat(state.value) - cursor.overlap:
            return None
        return (
            f"rows written since the last load bear times before the stored cursor: local times, if so declare "
            f'Timestamp("{cursor.column}", zone=…), or clocks that differ, if so declare lag=…'
        )


async def notice_local_times(connection: Connection[Record], table: Table, shape: Shape, where: str) -> LocalTimes:
    """What is noticed of a column without time zone whose zone is not declared.

    Raises:
        SourceError: its newest value is the local time of now in the zone of one who writes, west of UTC: rows would be
            lost.
    """
    cursor = table.cursor
    column = shape.column(cursor.column) if isinstance(cursor, Timestamp) and not cursor.zone else None
    if column is None or not column.raw_type.startswith("timestamp") or "with time zone" in column.raw_type:
        return LocalTimes()
    relation = table.relation
    newest: datetime | None = None
    is_known = bool(await connection.fetchval(_IS_CHEAP, table.catalogued, column.name, _FEW_PAGES))
    if is_known:
        name = quote_identifier(column.name)
        # Without infinity, which Python's clock does not know.
        newest = await connection.fetchval(
            f"select max({name})::timestamp from {relation} where {name} > '1900-01-01' and {name} < '9999-01-01'"
        )
    zones = await connection.fetch(_ZONES, table.catalogued)
    if not zones or (newest is not None and _is_now(newest, zones[0]["utc"])):
        return LocalTimes(None, newest, is_known)
    for zone in zones:
        if zone["local"] < zone["utc"] and newest is not None and _is_now(newest, zone["local"]):
            raise SourceError(
                f"column {column.name} has no time zone, and its newest value is the time of now in {zone['zone']} "
                f"({zone['whose']}), not in UTC: a cursor in UTC would lose changes for hours",
                where=where,
                fix=f'declare Timestamp("{column.name}", zone="{zone["zone"]}"), or zone="UTC" if its times are in UTC',
            )
    zone = zones[0]
    warning = (
        f"column {column.name} has no time zone and is read as UTC, but {zone['whose']} is {zone['zone']}: declare "
        f'Timestamp("{column.name}", zone="{zone["zone"]}"), or zone="UTC" if its times are in UTC'
    )
    return LocalTimes(warning, newest, is_known)


def _is_now(value: datetime, clock: datetime) -> bool:
    return clock - _JUST_NOW <= value <= clock + _AHEAD
