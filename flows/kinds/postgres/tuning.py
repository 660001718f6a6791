"""What the tuner asks a PostgreSQL source about a table: its size, columns for a cursor, the plan of its reads, free
connections. From the catalogue, statistics and `explain`: no row is read, and the session is read-only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.declare.table import Table
from flows.kinds.answers import CursorCandidate, SourceFacts, SourceScan
from flows.values.identifiers import qualified, quote_identifier, quote_literal

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: A question of the catalogue takes milliseconds; one that waits for a lock is given up.
_PATIENCE_MS = 5_000

_SIZE = """
select c.relkind::text as kind, greatest(c.reltuples, 0)::bigint as rows, pg_table_size(c.oid) as bytes
from pg_class as c where c.oid = to_regclass($1)
"""
# Functions of triggers that assign to the column. A comment that does so would be taken for one: what the column did in
# the past is checked as well.
_CANDIDATES = r"""
select
    a.attname::text as name,
    t.typname in ('int4', 'int8') as counts,
    a.attidentity::text as identity,
    coalesce(pg_get_expr(d.adbin, d.adrelid), '') as default_value,
    exists (
        select from pg_trigger as g inner join pg_proc as p on g.tgfoid = p.oid
        where g.tgrelid = a.attrelid and not g.tgisinternal and g.tgenabled <> 'D' and (g.tgtype & 18) = 18
            and (
                strpos(regexp_replace(lower(p.prosrc), '\s', '', 'g'), 'new.' || lower(a.attname) || ':=') > 0
                or strpos(regexp_replace(lower(p.prosrc), '\s', '', 'g'), 'new.' || lower(a.attname) || '=') > 0
            )
    ) as set_by_trigger
from pg_attribute as a
inner join pg_type as t on a.atttypid = t.oid and t.typnamespace = 'pg_catalog'::regnamespace
left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped
    and (
        t.typname in ('timestamp', 'timestamptz')
        or t.typname in ('int4', 'int8')
        and (a.attidentity <> '' or pg_get_expr(d.adbin, d.adrelid) like 'nextval(%')
    )
order by a.attnum
"""
# The first column of each valid index that has every row and its default order.
_FIRST_COLUMNS = """
select distinct a.attname::text
from pg_index as i
inner join pg_class as c on i.indexrelid = c.oid
inner join pg_am as m on c.relam = m.oid and m.amname = 'btree'
inner join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
where i.indrelid = to_regclass($1) and i.indisvalid and i.indpred is null
"""
# Of sessions, other roles' included, everybody may see that they are there.
_FREE = """
select least(
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
    - (select count(*) from pg_stat_activity where backend_type = 'client backend'),
    (
        select case when r.rolconnlimit < 0 then 1000000 else r.rolconnlimit end - (
            select count(*) from pg_stat_activity as s where s.usename = current_user
        )
        from pg_roles as r where r.rolname = current_user
    )
)::integer
"""
_LONGEST_NAME = 63


@dataclass(frozen=True, slots=True)
class _Plan:
    """Of a planner's answer: its cost, the rows it expects, and whether it scans a table from end to end."""

    cost: float
    rows: int
    reads_all: bool


async def source_facts(origin: Connection[Record], table: Table, reached: str | None) -> SourceFacts | None:
    """None for a query, a view or a foreign table, of which the catalogue says too little."""
    async with origin.transaction(readonly=True):
        await origin.execute(f"set local statement_timeout = {_PATIENCE_MS}; set local lock_timeout = {_PATIENCE_MS}")
        size = await origin.fetchrow(_SIZE, table.catalogued)
        if size is None or size["kind"] not in ("r", "m", "p"):
            return None
        indexed = {row[0] for row in await origin.fetch(_FIRST_COLUMNS, table.catalogued)}
        columns = await origin.fetch(_CANDIDATES, table.catalogued)
        return SourceFacts(
            size["rows"],
            size["bytes"],
            tuple(_candidate(row, indexed) for row in columns if _is_as_at_source(table, row["name"])),
            await _scan(origin, table, reached, indexed),
            await origin.fetchval(_FREE),
        )


def _is_as_at_source(table: Table, column: str) -> bool:
    """Whether raw has the column with its own values."""
    return table.reads(column) and column not in table.masked and column not in table.as_text


def _candidate(row: Record, indexed: set[str]) -> CursorCandidate:
    reasons = []
    if row["counts"]:
        reasons.append("identity" if row["identity"] else "default from a sequence")
    if row["set_by_trigger"]:
        reasons.append("set by a trigger on update")
    elif not row["counts"] and any(word in row["default_value"].lower() for word in ("now()", "current_timestamp")):
        reasons.append("default now()")
    if row["name"] in indexed:
        reasons.append("indexed")
    return CursorCandidate(row["name"], row["counts"], ", ".join(reasons), row["name"] in indexed)


async def _scan(origin: Connection[Record], table: Table, reached: str | None, indexed: set[str]) -> SourceScan | None:
    """How the planner would find the rows of the next load; None if an index begins with the cursor's column."""
    column = table.cursor_column
    if column is None or reached is None or column in indexed:
        return None
    name, relation = quote_identifier(column), table.relation
    found = await _explain(
        origin, f"select * from {relation} where {_within(table, f'{name} >= {quote_literal(reached)}')}"
    )
    counted = await _explain(origin, f"select count(*) from {relation} where {table.within('true')}")
    together = found.cost + counted.cost
    index = _index_name(table, column)
    return SourceScan(
        column,
        found.reads_all,
        found.rows,
        found.cost / together if together else 0.0,
        f"create index concurrently {quote_identifier(index)} on {relation} ({name})",
        f"drop index concurrently if exists {qualified(table.schema, index)}",
    )


def _within(table: Table, condition: str) -> str:
    return table.within(f"({condition})")


def _index_name(table: Table, column: str) -> str:
    name = f"{table.at_source}_{column}_tuned"
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    return f"tuned_x{hashlib.sha256(name.encode()).hexdigest()[:12]}"


async def _explain(origin: Connection[Record], query: str) -> _Plan:
    """What the planner says. Its text, which quotes bounds, goes no further."""
    plan = json.loads(await origin.fetchval(f"explain (format json) {query}"))[0]["Plan"]
    nodes = list(_nodes(plan))
    return _Plan(
        float(plan["Total Cost"]), int(plan["Plan Rows"]), any(node["Node Type"] == "Seq Scan" for node in nodes)
    )


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)
