"""The manifests of full builds, stored in the warehouse with the tables they describe.

Anyone who may read the warehouse can compare with them and defer to them, on any machine. The reviewer role may not
access tables of schema `ops`, because it could lock them; it uses the functions of schema `reviews`
(infra/local/roles_reviewer.sql), which return the same.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# A manifest is some 300 kB; ten cover the changes of the last days.
_KEPT = 10


@dataclass(frozen=True, slots=True)
class WholeBuild:
    """A build of the full project into the shared schemas: its run, and the start of that run."""

    run_id: int
    started_at: datetime


async def keep_manifest(connection: Connection[Record], run_id: int, text: bytes) -> None:
    """Store the manifest of a successful full build, and delete old ones. As the loader."""
    packed = gzip.compress(text, compresslevel=6, mtime=0)
    async with connection.transaction():
        await connection.execute("insert into ops.dbt_manifests (run_id, manifest) values ($1, $2)", run_id, packed)
        await connection.execute(
            "delete from ops.dbt_manifests where run_id not in "
            "(select run_id from ops.dbt_manifests order by run_id desc limit $1) "
            # For the rollback of the newest release, and the roll forward.
            "and run_id not in (select unnest(array_remove(array[run_id, replaced_run_id], null)) from ops.releases "
            "where release_id = (select max(release_id) from ops.releases where released_at is not null))",
            _KEPT,
        )


async def newest_build(connection: Connection[Record]) -> WholeBuild | None:
    """The newest build with a stored manifest; None if there is none."""
    if not await _may_use_ops(connection):
        row = await connection.fetchrow("select run_id, started_at from reviews.newest_build()")
    elif not await connection.fetchval("select to_regclass('ops.dbt_manifests') is not null"):
        return None
    else:
        row = await connection.fetchrow(
            "select m.run_id, r.started_at from ops.dbt_manifests as m inner join ops.runs as r on r.run_id = m.run_id "
            "order by m.run_id desc limit 1"
        )
    return WholeBuild(int(row["run_id"]), row["started_at"]) if row else None


async def is_kept(connection: Connection[Record], run_id: int) -> bool:
    """Whether the manifest of that build is still stored."""
    return bool(await connection.fetchval("select exists (select from ops.dbt_manifests where run_id = $1)", run_id))


async def read_manifest(connection: Connection[Record], run_id: int) -> bytes:
    """The manifest of that build: JSON as dbt wrote it.

    Raises:
        LookupError: it is no longer stored.
    """
    query = "select manifest from ops.dbt_manifests where run_id = $1"
    if not await _may_use_ops(connection):
        query = "select reviews.read_manifest($1)"
    packed = await connection.fetchval(query, run_id)
    if packed is None:
        raise LookupError(f"the manifest of run {run_id} is not kept any more")
    return gzip.decompress(packed)


async def tables_changed_since(connection: Connection[Record], moment: datetime) -> list[str]:
    """The tables whose rows changed in raw after that time, as `shop.baskets`, sorted."""
    query = (
        "select distinct source_system || '.' || table_name as name from ops.loads where status = 'published' "
        "and finished_at > $1 "
        "and coalesce(rows_inserted, 0) + coalesce(rows_updated, 0) + coalesce(rows_deleted, 0) > 0 order by name"
    )
    if not await _may_use_ops(connection):
        query = "select name from reviews.tables_changed_since($1) as name"
    return [row["name"] for row in await connection.fetch(query, moment)]


async def _may_use_ops(connection: Connection[Record]) -> bool:
    query = "select has_schema_privilege(oid, 'usage') from pg_namespace where nspname = 'ops'"
    return bool(await connection.fetchval(f"select coalesce(({query}), true)"))
