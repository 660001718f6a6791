"""Runs of pipelines in `ops.runs`: opened and closed, also for dead processes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flows.state.active_runs import RUN_LOCK

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Why a run was stopped that neither completed nor failed, in `details ->> 'ended'`.
CANCELLED = "cancelled"
TERMINATED = "terminated, for example because its worker or machine was shut down"
DIED = "the process ended without a word"


async def open_run(
    connection: Connection[Record], pipeline: str, scope: str, flow_run_id: str | None, correlation_id: str | None
) -> int:
    """A new row of ops.runs; returns its id."""
    return int(
        await connection.fetchval(
            "insert into ops.runs (pipeline, scope, flow_run_id, correlation_id) values ($1, $2, $3, $4) "
            "returning run_id",
            pipeline,
            scope,
            flow_run_id,
            correlation_id,
        )
    )


async def close_dead_runs(connection: Connection[Record], pipeline: str, scope: str, tables: Sequence[str]) -> None:
    """Close the rows of killed runs: still `running`, without a lock of the run or one of its tables.

    A run that is alive between two tables overwrites this with its actual end.
    """
    await connection.execute(
        "update ops.runs set status = 'failed', finished_at = clock_timestamp(), "
        "details = jsonb_build_object('ended', $4::text) "
        "where pipeline = $1 and scope = $2 and status = 'running' and not exists (select from ops.locks as l "
        "where (l.name = any($3::text[]) or l.name = $5::text || runs.run_id) "
        "and ops.is_held(l.key, l.pid, l.account))",
        pipeline,
        scope,
        [f"{scope}.{table}" for table in tables],
        DIED,
        RUN_LOCK,
    )


async def close_run(
    connection: Connection[Record],
    run_id: int,
    status: str,
    error_id: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Record the run's status: done, failed, refused, rescheduled or stopped."""
    await connection.execute(
        "update ops.runs set status = $2, error_id = $3, details = $4::text::jsonb, finished_at = clock_timestamp() "
        "where run_id = $1",
        run_id,
        status,
        error_id,
        json.dumps(details) if details is not None else None,
    )


async def note_details(connection: Connection[Record], run_id: int, details: Mapping[str, Any]) -> None:
    """Store what others refer to, or see, of a run that has begun, with the time. Its end replaces it."""
    await connection.execute(
        "update ops.runs set details = $2::text::jsonb || jsonb_build_object('noted_at', clock_timestamp()) "
        "where run_id = $1 and status = 'running'",
        run_id,
        json.dumps(details),
    )


async def close_stopped_run(connection: Connection[Record], run_id: int, ended: str) -> None:
    """Record that the run was stopped from outside, unless it had already ended."""
    await connection.execute(
        "update ops.runs set status = 'failed', details = jsonb_build_object('ended', $2::text), "
        "finished_at = clock_timestamp() where run_id = $1 and status = 'running'",
        run_id,
        ended,
    )
