"""Positions of relations: a text that differs once anything was written to them.

Loads are known from the ledger, which commits with their rows. Whatever else writes is found by PostgreSQL's own
counters and file numbers; small tables outside the ledger are read in full, because counters may come seconds later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from flows.values.identifiers import qualified

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Name = tuple[str, str]

# Row versions of 16 MB are hashed in about 0.1 s; larger tables outside the ledger are followed by their counters.
_HASHED_BYTES = 16 * 2**20
_LOADS = """
select
    source_system,
    table_name,
    concat_ws(
        '.', max(batch_id), count(*),
        sum(coalesce(rows_inserted, 0) + coalesce(rows_updated, 0) + coalesce(rows_deleted, 0))
    ) as position
from ops.loads
where coalesce(rows_inserted, 0) + coalesce(rows_updated, 0) + coalesce(rows_deleted, 0) > 0
group by source_system, table_name
"""


@dataclass(frozen=True, slots=True)
class Position:
    """`shape` differs once the relation was altered or made again, `rows` also once a row was written.

    `rows` is None if that cannot be known, as for foreign tables.
    """

    shape: str
    rows: str | None

    @property
    def text(self) -> str | None:
        """Both as one text; None if it cannot be known."""
        return None if self.rows is None else f"{self.shape}|{self.rows}"


async def of_inputs(
    ops: Connection[Record], warehouse: Connection[Record], names: Iterable[Name]
) -> dict[Name, Position]:
    """Positions of relations that others write. Missing relations are left out. `ops` may read the ledger."""
    wanted = sorted(set(names))
    loads = {(f"raw_{row['source_system']}", row["table_name"]): row["position"] for row in await ops.fetch(_LOADS)}
    found = await of_relations(warehouse, wanted)
    for name, position in found.items():
        if position.rows is None:
            continue
        known = loads.get(name) or await _row_versions(warehouse, name)
        found[name] = Position(position.shape, None if known is None else f"{position.rows}.{known}")
    return found


async def newest_loads(ops: Connection[Record]) -> dict[str, int]:
    """The newest published load of each table, such as `shop.baskets`. Positions that are read later have its rows."""
    rows = await ops.fetch(
        "select source_system || '.' || table_name as name, max(batch_id) as batch_id from ops.loads "
        "where status = 'published' group by source_system, table_name order by 1"
    )
    return {row["name"]: row["batch_id"] for row in rows}


async def of_relations(warehouse: Connection[Record], names: Sequence[Name]) -> dict[Name, Position]:
    """Positions by catalog and counters. Missing relations are left out."""
    rows = await warehouse.fetch(_sql(), [schema for schema, _ in names], [name for _, name in names])
    found = {}
    for row in rows:
        known = row["rows_position"] is not None or row["relation_kind"] == "v"
        found[row["schema_name"], row["relation_name"]] = Position(
            row["shape"], (row["rows_position"] or "") if known else None
        )
    return found


async def _row_versions(warehouse: Connection[Record], name: Name) -> str | None:
    """A hash of the places and writers of all rows; empty for large tables and for views.

    None if the role may not read the rows: whoever needs them, a model or a gate, says so better.
    """
    relation = qualified(*name)
    size, kind = await warehouse.fetchrow(  # type: ignore[misc]
        "select pg_relation_size(oid), relkind::text from pg_class where oid = to_regclass($1)", relation
    )
    if kind != "r" or size > _HASHED_BYTES:
        return ""
    try:
        text: str = await warehouse.fetchval(
            "select concat_ws('.', count(*), sum(hashtextextended(ctid::text || '/' || xmin::text, 0)::numeric)) "
            f"from {relation}"
        )
    except asyncpg.InsufficientPrivilegeError:
        return None
    return text


@cache
def _sql() -> str:
    return Path(__file__).with_name("positions.sql").read_text(encoding="utf-8")
