"""The accounts of the embedded cluster, and their passwords on disk and in the cluster."""

import secrets
from collections.abc import Mapping

import psycopg

from infra.local import roles
from infra.local.errors import DiskFull, NotOurs, ServiceFailed, StackError
from infra.local.home import Home, read_json, write_private
from infra.local.ports import HOST
from infra.local.postgres import Cluster
from infra.local.postmaster import Postmaster
from infra.local.prefect_server import SQLITE

#: What clients send to the embedded Prefect server, as user and password in one.
PREFECT_AUTH = "prefect_auth_string"


def credentials_of(home: Home) -> dict[str, str]:
    """The generated passwords; whatever is missing is generated, and on disk before it is used.

    Raises StackError where the cluster is there, and its administrator's password is not.
    """
    known = known_credentials(home)
    missing = [name for name in (roles.ADMIN, *roles.ROLES, "commerce_api_key", PREFECT_AUTH) if not known.get(name)]
    if not missing:
        return known
    if roles.ADMIN in missing and home.has_cluster():
        raise StackError(
            "the cluster exists, but its passwords file does not",
            where=str(home.credentials_file),
            fix=f"restore that file, or run `medallion down`and delete {home.postgres} to start from scratch",
        )
    known.update({name: secrets.token_urlsafe(24) for name in missing if name != PREFECT_AUTH})
    if PREFECT_AUTH in missing:
        known[PREFECT_AUTH] = f"medallion:{secrets.token_urlsafe(24)}"  # Prefect's pages ask for user:password
    write_private(home.credentials_file, known)
    return known


def known_credentials(home: Home) -> dict[str, str]:
    """The passwords that are there; nothing is generated."""
    return {name: str(value) for name, value in (read_json(home.credentials_file) or {}).items()}


def login(role: str, credentials: Mapping[str, str]) -> tuple[str, str]:
    """The account that is in use for the role, after a rotation perhaps its clone, and the password."""
    account = credentials.get(f"{role}_login", role)
    return account, credentials[account]


def prefect_database(home: Home, cluster: Cluster, port: int, credentials: Mapping[str, str]) -> str | None:
    """The URL of the Prefect server's database, for SQLAlchemy; None for a home that has one in SQLite.

    Deployments, blocks and runs are in there, and do not move by themselves.
    """
    if (home.prefect / SQLITE).exists():
        return None
    url = cluster.url(roles.PREFECT_ROLE, credentials[roles.PREFECT_ROLE], port, roles.PREFECT_DATABASE)
    return url.replace("postgresql://", "postgresql+asyncpg://", 1)


def apply_roles(cluster: Cluster, postmaster: Postmaster, credentials: Mapping[str, str]) -> list[str]:
    """Make the roles, grant what each needs, and give every account that is in use the password that is kept.

    Returns a line for each setting of a role that somebody had changed and that was put back.

    Raises DiskFull, NotOurs, ServiceFailed.
    """

    def admin(database: str) -> str:
        # A server that asks for the password itself, instead of proof that we know it, is none of ours.
        return (
            cluster.url(roles.ADMIN, credentials[roles.ADMIN], postmaster.port, database)
            + "?require_auth=scram-sha-256"
        )

    try:
        refuse_other_server(admin("postgres"), postmaster)
        drifted = roles.apply_all(
            admin,
            {role: credentials[role] for role in roles.ROLES},
        )
        _apply_rotated(admin("postgres"), credentials)
        return drifted
    except psycopg.errors.DiskFull as error:
        raise DiskFull(
            "the disk is full",
            where="embedded PostgreSQL",
            fix="free some space, or set MEDALLION_HOME to a folder on a larger disk",
        ) from error
    except psycopg.Error as error:
        reason = "the administrator's password is wrong" if "authentication" in str(error) else "it refused"
        raise ServiceFailed(
            f"roles could not be applied: {reason} (SQLSTATE {error.sqlstate or 'none'})",
            where="embedded PostgreSQL",
            fix=f"check {cluster.log}; to start from scratch, run `medallion down` and delete {cluster.folder}",
        ) from error


def refuse_other_server(admin_url: str, postmaster: Postmaster) -> None:
    """Raise NotOurs unless the server at the administrator's URL is that process.

    Neither password nor system identifier would tell: a copy of a home has the same.
    """
    with psycopg.connect(admin_url, autocommit=True) as admin:
        row = admin.execute("select split_part(pg_read_file('postmaster.pid'), chr(10), 1)").fetchone()
    if row is None or row[0] != str(postmaster.pid):
        raise NotOurs(
            f"the server on {HOST}:{postmaster.port} does not belong to this stack",
            where="embedded PostgreSQL",
            fix="run `medallion down` and `medallion up`: this stack's server then starts on another port",
        )


def _apply_rotated(admin_url: str, credentials: Mapping[str, str]) -> None:
    """After a recovery the cluster may be younger than the file of passwords, and an account have another there."""
    rotated = {role: login(role, credentials) for role in roles.ROLES if login(role, credentials)[0] != role}
    if not rotated:
        return
    # The platform's own rotation; code that only starts servers need not import it.
    from flows.access.rotation import ensure_account

    with psycopg.connect(admin_url, autocommit=True) as admin:
        for role, (account, password) in rotated.items():
            ensure_account(admin, role, account, password)
