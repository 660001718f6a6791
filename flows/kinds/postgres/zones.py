"""Local times in a column without time zone whose zone is not declared: noticed, and refused where they are evident.

West of UTC a local time is hours behind the source's clock, and a cursor in UTC is ahead of rows still to come.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flows.declare.cursor import Timestamp
from flows.declare.database import Table
from flows.values.errors import SourceError
from flows.values.identifiers import qualified, quote_identifier
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


async def notice_local_times(connection: Connection[Record], table: Table, shape: Shape, where: str) -> str | None:
    """A warning if the writers' time zone is not UTC and the column's zone is not declared.

    Raises:
        SourceError: its newest value is the local time of now in such a zone, west of UTC: rows would be lost.
    """
    cursor = table.cursor
    column = shape.column(cursor.column) if isinstance(cursor, Timestamp) and not cursor.zone else None
    if column is None or not column.raw_type.startswith("timestamp") or "with time zone" in column.raw_type:
        return None
    relation = qualified(table.schema, table.name)
    zones = await connection.fetch(_ZONES, relation)
    if not zones:
        return None
    newest: datetime | None = None
    if await connection.fetchval(_IS_CHEAP, relation, column.name, _FEW_PAGES):
        name = quote_identifier(column.name)
        # Without infinity, which Python's clock does not know.
        newest = await connection.fetchval(
            f"select max({name})::timestamp from {relation} where {name} > '1900-01-01' and {name} < '9999-01-01'"
        )
    if newest is not None and _is_now(newest, zones[0]["utc"]):
        return None
    for zone in zones:
        if zone["local"] < zone["utc"] and newest is not None and _is_now(newest, zone["local"]):
            raise SourceError(
                f"column {column.name} has no time zone, and its newest value is the time of now in {zone['zone']} "
                f"({zone['whose']}), not in UTC: a cursor in UTC would lose changes for hours",
                where=where,
                fix=f'declare Timestamp("{column.name}", zone="{zone["zone"]}"), or zone="UTC" if its times are in UTC',
            )
    zone = zones[0]
    return (
        f"column {column.name} has no time zone and is read as UTC, but {zone['whose']} is {zone['zone']}: declare "
        f'Timestamp("{column.name}", zone="{zone["zone"]}"), or zone="UTC" if its times are in UTC'
    )


def _is_now(value: datetime, clock: datetime) -> bool:
    return clock - _JUST_NOW <= value <= clock + _AHEAD
