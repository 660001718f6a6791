"""The estimated volume of a read and how to divide it: from PostgreSQL's statistics, without reading the table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.declare.table import Table
from flows.values.shape import Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Since PostgreSQL 14, ranges of pages are read without scanning the rest of the table.
_TID_RANGE_SCAN = 140_000

_FACTS = """
select
    -- The place of a row is no column of which select could be granted by itself.
    c.relkind in ('r', 'm') and current_setting('server_version_num')::integer >= $2
    and has_table_privilege(c.oid, 'select') as has_pages,
    case when c.relkind in ('r', 'm') then pg_relation_filenode(c.oid)::bigint end as file,
    case
        when c.relkind in ('r', 'm')
            then greatest(1, pg_relation_size(c.oid) / current_setting('block_size')::integer)
        else 1
    end as pages,
    case when c.relkind in ('r', 'm') then pg_table_size(c.oid) else 0 end as bytes,
    (select coalesce(json_agg(i.columns), '[]')::text from (:indexes) as i where i.columns is not null) as indexes
from pg_class as c
where c.oid = to_regclass($1)
"""
# Only indexes that contain every row, in the default order of their columns' types.
_INDEXES = """
select (
    select array_agg(a.attname::text order by k.place)
    from unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
    inner join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where k.place <= i.indnkeyatts
) as columns
from pg_index as i
inner join pg_class as c on i.indexrelid = c.oid
inner join pg_am as m on c.relam = m.oid
where
    i.indrelid = to_regclass($1) and i.indisvalid and i.indpred is null and i.indexprs is null and m.amname = 'btree'
    and not exists (
        select from unnest(i.indclass::oid[]) as o (oid)
        inner join pg_opclass as p using (oid)
        where not p.opcdefault
    )
"""


@dataclass(frozen=True, slots=True)
class Volume:
    """Estimated `rows` and `bytes` of a read; `pages` of the table and their `file`, if they can be read
    by range (`has_pages`); the columns of every index that orders all rows."""

    rows: int
    bytes: int
    has_pages: bool
    pages: int
    file: int | None
    indexes: tuple[tuple[str, ...], ...]

    def index_on(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """The columns, in the order of an index that starts with them; empty if there is none."""
        count = len(columns)
        return next((index[:count] for index in self.indexes if count and set(index[:count]) == set(columns)), ())


async def estimate(connection: Connection[Record], table: Table, shape: Shape, condition: str) -> Volume:
    """The planner's estimate for a read under the condition. Takes some milliseconds for any table size."""
    relation = table.relation
    columns = ", ".join(column.select for column in shape.columns)
    within = table.within(condition)
    explained = await connection.fetchval(f"explain (format json) select {columns} from {relation} where {within}")
    plan = json.loads(explained)[0]["Plan"]
    rows = int(plan["Plan Rows"])
    size = rows * int(plan["Plan Width"])
    if table.query:
        return Volume(rows, size, False, 1, None, ())
    facts = await connection.fetchrow(_FACTS.replace(":indexes", _INDEXES), relation, _TID_RANGE_SCAN)
    assert facts is not None  # describe() has refused a missing table
    if condition in {"true", "(true)"} and not table.where:
        # Wide values are in TOAST, which the planner's width does not include.
        size = max(size, facts["bytes"])
    indexes = tuple(tuple(columns) for columns in json.loads(facts["indexes"]))
    return Volume(rows, size, facts["has_pages"], facts["pages"], facts["file"], indexes)
