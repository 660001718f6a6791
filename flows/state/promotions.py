"""Facts of an environment's ledger for the promotion gates, and the record of promotions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flows.state.freshness import COMPLETE, PARTIAL

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class LastBuild:
    """The newest finished full build: status, time, models, and its checks as gate → outcome → count."""

    run_id: int
    status: str
    finished_at: datetime
    models: str | None
    nodes: int | None
    checks: Mapping[str, Mapping[str, int]]


async def last_build(connection: Connection[Record]) -> LastBuild | None:
    """The newest finished transform or release. A failed one counts: it shows the current state of these models."""
    row = await connection.fetchrow(
        "select run_id, status, finished_at, details from ops.runs where pipeline in ('transform', 'release') "
        "and finished_at is not null and (status <> 'done' or details ? 'full_build') order by run_id desc limit 1"
    )
    if row is None:
        return None
    checks: dict[str, dict[str, int]] = {}
    for found in await connection.fetch(
        "select gate, outcome, count(*) as checks from ops.check_results where run_id = $1 group by gate, outcome",
        row["run_id"],
    ):
        checks.setdefault(found["gate"], {})[found["outcome"]] = int(found["checks"])
    details = json.loads(row["details"] or "{}")
    return LastBuild(
        row["run_id"], row["status"], row["finished_at"], details.get("models"), details.get("nodes"), checks
    )


async def hours_since_loads(connection: Connection[Record]) -> dict[tuple[str, str], float]:
    """(source, table) → hours since its last published load; loads of a part do not count."""
    rows = await connection.fetch(
        "select source_system, table_name, extract(epoch from now() - max(finished_at)) / 3600 as hours from ops.loads "
        f"where status = 'published' and {COMPLETE} and strategy <> all($1) group by source_system, table_name",
        [*PARTIAL],
    )
    return {(row["source_system"], row["table_name"]): float(row["hours"]) for row in rows}


async def open_circuits(connection: Connection[Record]) -> list[str]:
    """Sources whose circuit is open or half-open."""
    rows = await connection.fetch("select source_system from ops.circuits where state <> 'closed' order by 1")
    return [row["source_system"] for row in rows]


async def comparisons(connection: Connection[Record]) -> tuple[list[str], int]:
    """Tables that differed from their source in the last comparison, as `shop.baskets`; and how many matched."""
    rows = await connection.fetch(
        "select distinct on (source_system, table_name) source_system || '.' || table_name as name, result "
        "from ops.reconciliations order by source_system, table_name, reconciliation_id desc"
    )
    differing = sorted(row["name"] for row in rows if row["result"] == "different")
    return differing, sum(row["result"] == "match" for row in rows)


async def gold_shape(connection: Connection[Record]) -> dict[str, dict[str, str]]:
    """Tables and views of gold with their columns and types; empty if nothing was built yet."""
    rows = await connection.fetch(
        "select c.relname, a.attname, format_type(a.atttypid, a.atttypmod) as kind from pg_class as c "
        "inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped "
        "where c.relnamespace = to_regnamespace('gold') and c.relkind in ('r', 'p', 'v', 'm') "
        "and not c.relispartition order by c.relname, a.attnum"
    )
    shape: dict[str, dict[str, str]] = {}
    for row in rows:
        shape.setdefault(row["relname"], {})[row["attname"]] = row["kind"]
    return shape


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt to promote a commit, as ops.promotions keeps it. `outcome` is `promoted` or `refused`."""

    environment: str
    promoted_from: str
    outcome: str
    commit: str
    models: str
    approved_by: str | None
    promoted_by: str
    gates: Sequence[Mapping[str, Any]]


async def record_promotion(connection: Connection[Record], attempt: Attempt) -> int:
    """A row of ops.promotions; returns its number."""
    return int(
        await connection.fetchval(
            "insert into ops.promotions (environment, promoted_from, outcome, commit_sha, models, approved_by, "
            "promoted_by, gates) values ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb) returning promotion_id",
            attempt.environment,
            attempt.promoted_from,
            attempt.outcome,
            attempt.commit,
            attempt.models,
            attempt.approved_by,
            attempt.promoted_by,
            json.dumps(attempt.gates),
        )
    )
