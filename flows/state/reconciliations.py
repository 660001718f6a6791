"""Reconciliation results, one row per table and comparison, in `ops.reconciliations`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """One comparison of a table with its source, in rows.

    `method`: `content` by key, `content without key` (counts and one checksum), or `count`.
    Differences: `missing` in raw, `extra` in raw, `different` content, and `duplicate` keys, which several rows of the
    source have. Not differences: `quarantined` unchanged rows, `pending` rows, which the next load reads by its cursor.
    `buckets` checksums were compared on each side, and the rows of `drilled` buckets key by key.
    `repaired` keys were reloaded before this comparison. `keys` has sample keys per kind of difference.
    """

    source: str
    table: str
    method: str
    result: str
    source_rows: int | None = None
    raw_rows: int | None = None
    buckets: int = 0
    drilled: int = 0
    missing: int = 0
    extra: int = 0
    different: int = 0
    duplicate: int = 0
    quarantined: int = 0
    pending: int = 0
    repaired: int = 0
    seconds: float = 0.0
    note: str | None = None
    keys: Mapping[str, list[list[str | None]]] = field(default_factory=dict)

    @property
    def differences(self) -> int:
        """Rows that no future load will correct automatically."""
        return self.missing + self.extra + self.different + self.duplicate

    @property
    def agrees(self) -> bool:
        """Whether no differences remain."""
        return self.result != "different"


async def record(connection: Connection[Record], run_id: int | None, result: Reconciliation) -> None:
    """A row of ops.reconciliations."""
    facts = asdict(result)
    facts["keys"] = json.dumps(facts["keys"])
    facts["source_system"], facts["table_name"] = facts.pop("source"), facts.pop("table")
    facts["run_id"] = run_id
    places = ", ".join(f"${place}" + ("::text::jsonb" if name == "keys" else "") for place, name in enumerate(facts, 1))
    await connection.execute(f"insert into ops.reconciliations ({', '.join(facts)}) values ({places})", *facts.values())


async def last_of(connection: Connection[Record], correlation_id: str) -> list[dict[str, Any]]:
    """The last comparison of each table in the runs of this correlation id, those that differ first."""
    records = await connection.fetch(
        "select * from (select distinct on (c.source_system, c.table_name) c.* from ops.reconciliations as c "
        "inner join ops.runs as r using (run_id) where r.correlation_id = $1 "
        "order by c.source_system, c.table_name, c.reconciliation_id desc) as last "
        "order by result <> 'different', reconciliation_id",
        correlation_id,
    )
    return [dict(record) for record in records]
