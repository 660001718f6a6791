"""Apply the roles and privileges of the .sql files in this folder. Idempotent."""

from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.errors import Diagnostic

ADMIN = "medallion_admin"
#: The roles that get a generated password, besides the administrator.
ROLES = (
    "medallion_extractor",
    "medallion_loader",
    "medallion_transformer",
    "medallion_reader",
    "medallion_reviewer",
    "medallion_dashboard",
    "medallion_backup",
    "medallion_prefect",
    "shop_app",
)
#: The database of the embedded Prefect server, and the role that owns it.
PREFECT_DATABASE, PREFECT_ROLE = "prefect", "medallion_prefect"

_HERE = Path(__file__).parent


def apply_all(admin_url: Callable[[str], str], passwords: Mapping[str, str]) -> list[str]:
    """Create roles, set their passwords, create `warehouse`, `shop` and `prefect`, grant what each role needs.

    `admin_url(database)` is the administrator's address of a database. Returns a line for each setting that a role had
    changed of its own and that was put back, such as `put back what was changed of medallion_reader:
    statement_timeout=0`. Raises psycopg.Error.
    """
    drifted: list[str] = []

    def hear(notice: Diagnostic) -> None:
        if (notice.message_primary or "").startswith("put back "):
            drifted.append(notice.message_primary or "")

    with psycopg.connect(admin_url("postgres"), autocommit=True) as connection:
        connection.add_notice_handler(hear)
        ensure_roles(connection, passwords)
        # Every role may connect to these by default: the extractor has no business near the warehouse's cluster.
        connection.execute("revoke connect, temporary on database postgres, template1 from public")
        ensure_database(connection, "warehouse")
        ensure_database(connection, "shop")
        ensure_prefect_database(connection)
    with psycopg.connect(admin_url("warehouse")) as connection:
        grant_warehouse(connection)
    with psycopg.connect(admin_url("shop")) as connection:
        grant_shop(connection)
    return drifted


def ensure_roles(connection: psycopg.Connection, passwords: Mapping[str, str]) -> None:
    """Create the missing roles, those for backups and the demo too; give each role in `passwords` its password.

    The connection must lead to the database `postgres`.
    """
    connection.execute((_HERE / "roles.sql").read_bytes())
    connection.execute((_HERE / "roles_backup.sql").read_bytes())
    connection.execute((_HERE / "roles_prefect.sql").read_bytes())
    connection.execute((_HERE / "roles_demo.sql").read_bytes())
    for role, password in passwords.items():
        # Hashed here, so that the server never sees a password it could log.
        verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
        connection.execute(
            sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(verifier.decode()))
        )


def ensure_database(connection: psycopg.Connection, name: str) -> None:
    """Create the database unless it exists. The connection must be in autocommit mode."""
    if connection.execute("select from pg_database where datname = %s", [name]).fetchone() is None:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))


def ensure_prefect_database(connection: psycopg.Connection, name: str = PREFECT_DATABASE) -> None:
    """Create the Prefect server's database unless it exists. Nobody but its role may connect to it.

    Prefect's migrations create the extension pg_trgm; PostgreSQL lets a database's owner do that.
    """
    ensure_database(connection, name)
    database, role = sql.Identifier(name), sql.Identifier(PREFECT_ROLE)
    connection.execute(sql.SQL("alter database {} owner to {}").format(database, role))
    connection.execute(sql.SQL("revoke connect, temporary on database {} from public").format(database))


def grant_warehouse(connection: psycopg.Connection) -> None:
    """Schemas and privileges in the connected database, as a warehouse."""
    connection.execute((_HERE / "roles_warehouse.sql").read_bytes())
    connection.execute((_HERE / "roles_reviewer.sql").read_bytes())
    connection.execute((_HERE / "roles_dashboard.sql").read_bytes())
    connection.execute((_HERE / "roles_guard.sql").read_bytes())


def cluster_file() -> bytes:
    """The statements that make the platform's roles, without the demo's."""
    return (_HERE / "roles.sql").read_bytes()


def grant_shop(connection: psycopg.Connection) -> None:
    """Privileges in the connected database, as the demo's source."""
    connection.execute((_HERE / "roles_shop.sql").read_bytes())
