"""Room: the warehouse's disk, WAL that slots retain, Prefect's database, and transaction ids."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from flows.operations.alerts import Condition

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_GB = 1024**3
_CRITICAL_PERCENT = 95
_TRIES = 20
#: Vacuum stops sparing anybody at 1.6 billion; the server refuses to write at 2.1. Autovacuum acts at 0.2.
_IDS_WARNING, _IDS_CRITICAL = 1_000_000_000, 1_600_000_000

_SLOTS = """
select slot_name, active, wal_status,
    pg_wal_lsn_diff(
        case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end, restart_lsn
    )::float8 as kept
from pg_replication_slots order by slot_name
"""
_PREFECT = """
select datname as name, pg_database_size(oid) as size from pg_database
where datname = 'prefect' or pg_get_userbyid(datdba) in ('prefect', 'medallion_prefect') order by 2 desc
"""
_AGES = """
select datname as name, greatest(age(datfrozenxid), mxid_age(datminmxid)) as age from pg_database
where datallowconn order by 2 desc limit 1
"""


async def disk_of_folder(folder: Path, percent: float) -> list[Condition]:
    """The disk that a folder of this machine is on."""
    usage = shutil.disk_usage(folder)
    # As `df` counts: what is reserved for root is neither used nor free.
    return _disk(usage.used, usage.used + usage.free, percent)


async def disk_declared(connection: Connection[Record], total: float, percent: float) -> list[Condition]:
    """The disk of a server on another machine, whose size in bytes is declared: databases and WAL."""
    used = (await sizes(connection, "select sum(pg_database_size(oid))::bigint as size from pg_database"))["size"]
    with suppress(asyncpg.InsufficientPrivilegeError):  # a role without pg_monitor: databases alone
        used += await connection.fetchval("select coalesce(sum(size), 0)::bigint from pg_ls_waldir()")
    return _disk(used, total, percent)


async def sizes(connection: Connection[Record], query: str) -> Record | dict[str, Any]:
    """The first row of a query about sizes of databases, {} if there is none.

    The server refuses the size of a database that is dropped after its name was read: then it is asked again.
    """
    for _ in range(_TRIES):
        with suppress(asyncpg.UndefinedObjectError):
            return await connection.fetchrow(query) or {}
    return await connection.fetchrow(query) or {}


def _disk(used: float, total: float, percent: float) -> list[Condition]:
    share = 100 * used / total
    if share < percent:
        return []
    return [
        Condition(
            "disk full soon",
            "warehouse",
            "critical" if share >= max(_CRITICAL_PERCENT, percent) else "error",
            f"{share:.0f} % of {total / _GB:,.1f} GB are in use",
            "free some space (`medallion purge`, old backups, slots that retain WAL), or enlarge the disk",
            cause="warehouse: disk",
        )
    ]


async def slots(connection: Connection[Record], most: float) -> list[Condition]:
    """Replication slots that retain more WAL than `most` bytes, or have lost theirs."""
    found = []
    for row in await connection.fetch(_SLOTS):
        kept, name = row["kept"] or 0.0, row["slot_name"]
        if row["wal_status"] == "lost":
            what, severity = "the server removed WAL that its reader needed", "critical"
            fix = "drop it (`select pg_drop_replication_slot(…)`); its reader must begin with a new copy"
        elif row["wal_status"] == "unreserved":
            what, severity = f"it retains {kept / _GB:,.1f} GB of WAL, which may be removed at any time", "critical"
            fix = "start its reader now, or raise max_slot_wal_keep_size"
        elif kept > most:
            reader = "its reader is behind" if row["active"] else "nobody reads it"
            what, severity = f"it retains {kept / _GB:,.1f} GB of WAL: {reader}", "error"
            fix = "start its reader, or drop it if it is not needed: the disk fills up"
        else:
            continue
        found.append(Condition("slot retains WAL", f"slot {name}", severity, what, fix, cause="warehouse: disk"))
    return found


async def prefect_database(connection: Connection[Record], most: float) -> list[Condition]:
    """Prefect's database, if it is in this cluster, larger than `most` bytes."""
    try:
        row = await sizes(connection, _PREFECT)
    except asyncpg.InsufficientPrivilegeError:
        return []  # the size of others' databases needs pg_read_all_stats
    if not row or row["size"] < most:
        return []
    return [
        Condition(
            "Prefect database large",
            f"database {row['name']}",
            "warning",
            f"it has {row['size'] / _GB:,.1f} GB",
            "delete old flow runs and events: see docs/maintenance.md#prefects-database",
        )
    ]


async def transaction_ids(
    connection: Connection[Record], warning: int = _IDS_WARNING, critical: int = _IDS_CRITICAL
) -> list[Condition]:
    """The age of the oldest transaction id that is not frozen: at 2.1 billion the server stops writing."""
    row = await connection.fetchrow(_AGES)
    if row is None or row["age"] < warning:
        return []
    return [
        Condition(
            "transaction ids run out",
            f"database {row['name']}",
            "critical" if row["age"] >= critical else "error",
            f"its oldest transaction id is {row['age']:,} transactions old; the server stops writing at 2.1 billion",
            "end old transactions and prepared ones, drop unused slots, and run `vacuum (freeze)` in it",
        )
    ]
