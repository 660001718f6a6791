"""Releases of models in `ops.releases`: checked, released, withdrawn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A withdrawn release: when, and by whom."""

    release_id: int
    at: datetime
    by: str


async def record_release(
    connection: Connection[Record],
    run_id: int,
    models: str,
    commit: str | None,
    replaced_run_id: int | None,
    changes: Mapping[str, Any],
) -> int:
    """Record a release that passed its gates, before the swap; returns its number."""
    return int(
        await connection.fetchval(
            "insert into ops.releases (run_id, models, commit_sha, replaced_run_id, changes) "
            "values ($1, $2, $3, $4, $5::text::jsonb) returning release_id",
            run_id,
            models,
            commit,
            replaced_run_id,
            json.dumps(changes),
        )
    )


async def mark_released(connection: Connection[Record], release_id: int) -> None:
    """Record it as released: now, or since a process died before it could record it."""
    await connection.execute(
        "update ops.releases set released_at = coalesce(released_at, clock_timestamp()), withdrawn_at = null, "
        "withdrawn_by = null where release_id = $1 and (released_at is null or withdrawn_at is not null)",
        release_id,
    )


async def mark_withdrawn(connection: Connection[Record], release_id: int, by: str) -> None:
    """Record it as withdrawn. The first withdrawal is not overwritten."""
    await connection.execute(
        "update ops.releases set withdrawn_at = clock_timestamp(), withdrawn_by = $2 "
        "where release_id = $1 and withdrawn_at is null",
        release_id,
        by,
    )


async def settle(connection: Connection[Record], in_force: int | None, kept: int | None) -> None:
    """Correct the table from the schemas' comments, if a process died between the swap and the record.

    `kept` is the release under `previous__`: a later one than the current one was withdrawn.
    """
    if in_force is not None:
        await mark_released(connection, in_force)
    if kept is not None and kept > (in_force or 0):
        await mark_withdrawn(connection, kept, "an unfinished rollback")


async def withdrawn(connection: Connection[Record], models: str) -> Withdrawn | None:
    """The withdrawn release of exactly these models, unless they were released again."""
    row = await connection.fetchrow(
        "select release_id, withdrawn_at, withdrawn_by from ops.releases "
        "where models = $1 and released_at is not null order by release_id desc limit 1",
        models,
    )
    if row is None or row["withdrawn_at"] is None:
        return None
    return Withdrawn(int(row["release_id"]), row["withdrawn_at"], row["withdrawn_by"])


async def models_in_force(connection: Connection[Record]) -> str | None:
    """The fingerprint of the models of the newest full build; None if it was not stored."""
    models: str | None = await connection.fetchval(
        "select details ->> 'models' from ops.runs where status = 'done' "
        "and pipeline in ('transform', 'release', 'rollback') and details ? 'full_build' order by run_id desc limit 1"
    )
    return models
