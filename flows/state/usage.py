"""`ops.usage`: what the last load of a table, run of a pipeline, and build of a model used; by day in `ops.usage_days`,
by a trigger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class Usage:
    """One row. `scope` is a table's source, and a run's scope; models have none."""

    kind: Literal["load", "run", "model"]
    scope: str
    name: str
    status: str
    seconds: float | None = None
    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    rows: int | None = None
    bytes: int | None = None
    requests: int | None = None


async def record_usage(connection: Connection[Record], used: Sequence[Usage]) -> None:
    """Store them in place of the former. In one order, so that two writers do not wait for each other in a circle."""
    await connection.executemany(
        "insert into ops.usage as u (kind, scope, name, status, seconds, cpu_seconds, memory_bytes, rows, bytes, "
        "requests) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict (kind, scope, name) do update set "
        "status = excluded.status, seconds = excluded.seconds, cpu_seconds = excluded.cpu_seconds, "
        "memory_bytes = excluded.memory_bytes, rows = excluded.rows, bytes = excluded.bytes, "
        "requests = excluded.requests, ended_at = excluded.ended_at",
        [
            (u.kind, u.scope, u.name, u.status, u.seconds, u.cpu_seconds, u.memory_bytes, u.rows, u.bytes, u.requests)
            for u in sorted(used, key=lambda each: (each.kind, each.scope, each.name))
        ],
    )
