"""Runs of pipelines in `ops.runs`: opened, ended, and ended for those that died without a word."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flows.state.active_runs import RUN_LOCK

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: How a run ended that neither came to its end nor failed, in `details ->> 'ended'`.
CANCELLED = "cancelled by a person"
TERMINATED = "told to end, as when its worker or machine shuts down"
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
    """End the rows of runs that were killed: still `running`, with no lock held of the run or of one of its tables.

    A run that is alive between two tables writes its true end over this.
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
    """The run's outcome: done, failed, refused or rescheduled."""
    await connection.execute(
        "update ops.runs set status = $2, error_id = $3, details = $4::text::jsonb, finished_at = clock_timestamp() "
        "where run_id = $1",
        run_id,
        status,
        error_id,
        json.dumps(details) if details is not None else None,
    )


async def close_stopped_run(connection: Connection[Record], run_id: int, ended: str) -> None:
    """The run was stopped from outside, unless it had come to its end already."""
    await connection.execute(
        "update ops.runs set status = 'failed', details = jsonb_build_object('ended', $2::text), "
        "finished_at = clock_timestamp() where run_id = $1 and status = 'running'",
        run_id,
        ended,
    )
