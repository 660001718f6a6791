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

from flows.models.selective.volatile import reads_catalog, reads_clock
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

    `rows` is None if that cannot be known, as for foreign tables and views that read the clock.
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
    loads = {(f"raw_{row['source_system']}", row["table_name"]): row["position"] for row in await ops.fetch(_LOADS)}
    found: dict[Name, Position] = {}
    for row in await _fetch(warehouse, sorted(set(names)), inputs=True):
        name: Name = (row["schema_name"], row["relation_name"])
        position = _position(row)
        if position.rows is not None:
            # What a view reads may be small, or loaded, while its counters come seconds later.
            below = [] if name in loads else [(schema, table) for schema, table in row["tables_below"] or ()]
            known = [loads.get(each) or await _row_versions(warehouse, each) for each in [name, *below]]
            rows = ".".join([position.rows, *(each for each in known if each)])
            position = Position(position.shape, None if None in known else rows)
        found[name] = position
    return found


async def newest_loads(ops: Connection[Record]) -> dict[str, int]:
    """The newest published load of each table, such as `shop.baskets`. Positions that are read later have its rows."""
    rows = await ops.fetch(
        "select source_system || '.' || table_name as name, max(batch_id) as batch_id from ops.loads "
        "where status = 'published' group by source_system, table_name order by 1"
    )
    return {row["name"]: row["batch_id"] for row in rows}


async def of_relations(
    warehouse: Connection[Record], names: Sequence[Name], *, inputs: bool = False
) -> dict[Name, Position]:
    """Positions by catalog and counters. Missing relations are left out.

    With `inputs`, a view differs once what it reads does; otherwise only when it is replaced itself.
    """
    rows = await _fetch(warehouse, names, inputs=inputs)
    return {(row["schema_name"], row["relation_name"]): _position(row) for row in rows}


async def _fetch(warehouse: Connection[Record], names: Sequence[Name], *, inputs: bool) -> list[Record]:
    return await warehouse.fetch(_sql(), [schema for schema, _ in names], [name for _, name in names], inputs)


def _position(row: Record) -> Position:
    changes = any(reads_clock(text) or reads_catalog(text) for text in row["definitions"] or ())
    return Position(row["shape"], None if changes else row["rows_position"])


async def _row_versions(warehouse: Connection[Record], name: Name) -> str | None:
    """A hash of the places and writers of all rows; empty for large tables, and for what is no table.

    None if the role may not read the rows: whoever needs them, a model or a gate, says so better.
    """
    relation = qualified(*name)
    followed = await warehouse.fetchval(
        "select relkind <> 'r' or pg_relation_size(oid) > $2 from pg_class where oid = to_regclass($1)",
        relation,
        _HASHED_BYTES,
    )
    if followed is None:
        return None  # dropped in this moment
    if followed:
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
