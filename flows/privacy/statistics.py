"""The planner's statistics: samples of values, readable by whoever may read the table, that outlive the rows.

`vacuum` does not replace them; `analyze` does, in the transaction that deletes the rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flows.privacy.places import Place
from flows.privacy.references import Traces
from flows.privacy.rows import as_pattern
from flows.values.identifiers import qualified

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# The first version of the server with pg_clear_attribute_stats.
_CLEARS = 18
_IS_OURS = "select pg_has_role(relowner, 'usage') from pg_class where oid = $1::regclass"
# Of columns, of columns together, and of expressions; elements of arrays and documents too.
_FIND = """
with samples as (
    select schemaname, tablename, attname::text as name, most_common_vals::text as common,
        histogram_bounds::text as bounds, most_common_elems::text as elements
    from pg_stats
    union all
    select schemaname, tablename, array_to_string(attnames, ', '), most_common_vals::text, null, null
    from pg_stats_ext
    union all
    select schemaname, tablename, expr, most_common_vals::text, histogram_bounds::text, most_common_elems::text
    from pg_stats_ext_exprs
)
select distinct s.schemaname as schema, s.tablename as name, s.name as column
from samples as s
cross join lateral (
    select unnest(s.common::text[]) as v union all select unnest(s.bounds::text[])
    union all select unnest(s.elements::text[])
) as e
where s.schemaname not like 'pg\\_%' and s.schemaname <> 'information_schema'
    and (e.v ~* any($1::text[]) or (s.name = $2 and e.v = any($3::text[])))
order by 1, 2, 3
"""


async def find_samples(connection: Connection[Record], traces: Traces) -> list[tuple[str, str, str]]:
    """Schema, table and column of statistics with a word or a key of the subject, as far as the role may see them."""
    patterns = [as_pattern(word) for word in traces.words]
    found: set[tuple[str, str, str]] = set()
    for name, values in traces.values.items():
        rows = await connection.fetch(_FIND, patterns, name, values)
        found |= {(row["schema"], row["name"], row["column"]) for row in rows}
    return sorted(found)


async def refresh(connection: Connection[Record], places: Iterable[Place]) -> None:
    """Replace the statistics of these tables, which the role owns. May be part of the transaction that deletes."""
    for place in places:
        await _refresh(connection, place.relation)


async def _refresh(connection: Connection[Record], relation: str) -> None:
    await connection.execute(f"analyze {relation}")
    if not await connection.fetchval(f"select exists (select from {relation})"):
        await _clear(connection, relation)


async def _clear(connection: Connection[Record], relation: str) -> None:
    """`analyze` keeps the statistics of a table that has no row left, of which the subject's may have been the last."""
    if connection.get_server_version().major >= _CLEARS:
        await connection.execute(
            "select pg_clear_attribute_stats(s.schemaname, s.tablename, s.attname, s.inherited) from pg_stats as s "
            "inner join pg_class as c on s.tablename = c.relname inner join pg_namespace as n "
            "on s.schemaname = n.nspname and c.relnamespace = n.oid where c.oid = $1::regclass",
            relation,
        )
    # Of columns together there is no such function.
    for row in await connection.fetch(
        "select format('%I.%I', stxnamespace::regnamespace::text, stxname) as name, "
        "pg_get_statisticsobjdef(oid) as made from pg_statistic_ext where stxrelid = $1::regclass",
        relation,
    ):
        await connection.execute(f"drop statistics {row['name']}")
        await connection.execute(row["made"])


async def refresh_found(
    connection: Connection[Record], traces: Traces
) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """Replace statistics that have data of the subject. Returned are those of tables that the role does not own, and
    those that are still there although their table is empty.

    What statistics of other tables still have is in their rows: what the search finds, or of somebody else.
    """
    theirs, empty = [], set()
    for schema, name, column in await find_samples(connection, traces):
        table = qualified(schema, name)
        if not await connection.fetchval(_IS_OURS, table):
            theirs.append((schema, name, column))
            continue
        await _refresh(connection, table)
        if not await connection.fetchval(f"select exists (select from {table})"):
            empty.add((schema, name))
    stuck = [line for line in await find_samples(connection, traces) if line[:2] in empty] if empty else []
    return theirs, stuck
