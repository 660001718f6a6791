"""Checks of a recovered cluster, before it is used."""

import asyncio
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from flows.access import addresses
from flows.state import ledger
from flows.values.connection import DatabaseConnection
from flows.values.errors import ConfigurationError
from infra.backup import programs
from infra.backup.scratch import ScratchCluster

#: Names of the embedded warehouse, and of one set up as the README says.
_ROLE, _DATABASE = "medallion_loader", "warehouse"


@dataclass(frozen=True, slots=True)
class Check:
    """One question, whether the answer is good, and the answer."""

    name: str
    good: bool
    found: str


def warehouse_of(cluster: ScratchCluster) -> DatabaseConnection:
    """The recovered warehouse as its loader: role and database are those of the warehouse in force."""
    role, database = _ROLE, _DATABASE
    try:
        parts = urlsplit(addresses.warehouse().url)
    except ConfigurationError:
        pass  # the stack is gone, as it may be when one recovers
    else:
        role, database = unquote(parts.username or role), unquote(parts.path.strip("/")) or database
    return DatabaseConnection("recovered warehouse", cluster.url(role, database))


def check(cluster: ScratchCluster) -> list[Check]:
    """Roles, grants, the operations schema, and what it says of unfinished work."""
    warehouse = warehouse_of(cluster)
    found = [_roles(cluster)]
    try:
        found += asyncio.run(_operations(warehouse))
    except Exception as problem:
        found.append(Check("operations schema", False, f"{type(problem).__name__}: {warehouse.safe_address}"))
    return found


def check_pages(cluster: ScratchCluster) -> Check:
    """The checksum of every page; the cluster must be stopped."""
    if cluster.control().get("Data page checksum version", "0") == "0":
        return Check("page checksums", True, "the cluster was made without them")
    done = programs.run(
        "pg_checksums", "--check", "-D", str(cluster.data), account=cluster.account, cwd=cluster.sockets
    )
    bad = [line for line in done.stdout.splitlines() if line.startswith("Bad checksums")]
    return Check(
        "page checksums",
        done.returncode == 0,
        "good" if done.returncode == 0 else bad[0] if bad else "could not be read",
    )


def check_structure(cluster: ScratchCluster) -> Check:
    """pg_amcheck over all tables and indexes. It installs its extension, so only where the cluster is thrown away."""
    done = programs.run(
        "pg_amcheck",
        *("-h", str(cluster.sockets), "-p", "5432", "-U", cluster.superuser, "--all", "--install-missing", "-j", "2"),
        account=cluster.account,
        cwd=cluster.sockets,
    )
    if "could not open extension control file" in done.stderr or "is not available" in done.stderr:
        return Check("structure of tables and indexes", True, "not checked: amcheck is not installed")
    # Its lines name relations; the first tells enough, and none holds a value.
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return Check("structure of tables and indexes", done.returncode == 0, "good" if done.returncode == 0 else lines[0])


def _roles(cluster: ScratchCluster) -> Check:
    with cluster.connect() as session:
        known = {name for (name,) in session.execute("select rolname from pg_roles where rolcanlogin").fetchall()}
    wanted = {f"medallion_{name}" for name in ("extractor", "loader", "transformer", "reader")}
    if not wanted & known:
        return Check("roles", True, f"{len(known)} that log in")  # a warehouse whose roles have other names
    lacking = sorted(wanted - known - {"medallion_extractor"})
    return Check("roles", not lacking, f"{', '.join(lacking)} missing" if lacking else f"{len(known)} that log in")


async def _operations(warehouse: DatabaseConnection) -> list[Check]:
    async with addresses.connect(warehouse, side="warehouse") as session:
        version = await ledger.known_version(session)
        if version is None:
            return [Check("operations schema", True, "none yet: no load has ever run")]
        running = await session.fetchval("select count(*) from ops.loads where status = 'running'")
        tables = await session.fetchval("select count(distinct (source_system, table_name)) from ops.loads")
        writable = await session.fetchval(
            "select bool_and(has_table_privilege(current_user, c.oid, 'select, insert')) from pg_class as c "
            "inner join pg_namespace as n on n.oid = c.relnamespace "
            "where c.relkind = 'r' and (n.nspname in ('ops', 'quarantine') or n.nspname like 'raw\\_%')"
        )
    return [
        Check("operations schema", True, f"version {version}, {tables} tables loaded"),
        Check("grants", bool(writable), "the loader may write raw, operations and quarantine" if writable else "lost"),
        Check("unfinished loads", True, f"{running}; the next load of the table closes each"),
    ]
