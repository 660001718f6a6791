"""`python -m infra.aws_roles`: create roles and databases on a stack's two servers, with passwords in Secrets Manager.

Both servers are reachable from inside the network only, so this runs there, as the task `roles` of the Pulumi program:
once after the first `pulumi up`, and again whenever roles or privileges change. An existing password in Secrets
Manager is kept, and set for the role again.
"""

import argparse
import json
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg import sql

from blocks.aws import credentials
from flows.values.settings import settings
from infra.local.roles import cluster_file, ensure_database, grant_warehouse

ROLES = ("loader", "transformer", "reader")
#: The role of the Prefect server. It has no password: it comes with a token of IAM.
PREFECT = "prefect"
SslMode = Literal["verify-full", "disable"]


@dataclass(frozen=True)
class Server:
    """One PostgreSQL, and the secret in which RDS keeps its administrator's password."""

    host: str
    port: int
    admin_secret: str
    sslmode: SslMode = "verify-full"


def prepare_warehouse(server: Server, client: Any, prefix: str) -> list[str]:
    """Roles, database and privileges of the warehouse. Returns a line for each thing done, none of them secret.

    Raises psycopg.Error and botocore's errors.
    """
    done = []
    with _connect(server, client, "postgres") as admin:
        admin.execute(cluster_file())
        for role in ROLES:
            name, user = f"{prefix}warehouse-{role}", f"medallion_{role}"
            password = _kept_password(client, name)
            fresh = password is None
            password = password or secrets.token_urlsafe(32)
            _set_password(admin, user, password)
            if fresh:
                client.put_secret_value(SecretId=name, SecretString=json.dumps(_secret(server, user, password)))
            done.append(f"{'made' if fresh else 'kept'}  password of {user} in {name}")
        ensure_database(admin, "warehouse")
        admin.execute("revoke connect, temporary on database postgres from public")
    with _connect(server, client, "warehouse") as admin:
        grant_warehouse(admin)
    return [*done, "made  database warehouse and its privileges"]


def prepare_prefect(server: Server, client: Any) -> list[str]:
    """The role and the database of the Prefect server. Returns and raises as `prepare_warehouse`."""
    with _connect(server, client, "postgres") as admin:
        role = sql.Identifier(PREFECT)
        if admin.execute("select from pg_roles where rolname = %s", [PREFECT]).fetchone() is None:
            admin.execute(sql.SQL("create role {} login").format(role))
        admin.execute(sql.SQL("grant rds_iam to {}").format(role))
        # Since PostgreSQL 16 who creates a role may not act as it yet, which giving it a database asks for.
        admin.execute(sql.SQL("grant {} to current_user").format(role))
        ensure_database(admin, "prefect")
        admin.execute(sql.SQL("alter database prefect owner to {}").format(role))
        admin.execute("revoke connect, temporary on database prefect, postgres from public")
    with _connect(server, client, "prefect") as admin:
        # Prefect's own migration asks for it, in a role that needs no right to create extensions by that.
        admin.execute("create extension if not exists pg_trgm")
    return [f"made  database prefect, owned by {PREFECT}"]


def _connect(server: Server, client: Any, database: str) -> psycopg.Connection:
    admin = json.loads(client.get_secret_value(SecretId=server.admin_secret)["SecretString"])
    return psycopg.connect(
        host=server.host,
        port=server.port,
        user=admin["username"],
        password=admin["password"],
        dbname=database,
        sslmode=server.sslmode,
        connect_timeout=10,
        autocommit=True,
    )


def _secret(server: Server, user: str, password: str) -> dict[str, object]:
    """As the rotation function reads and writes it."""
    fields: dict[str, object] = {
        "engine": "postgres",
        "host": server.host,
        "port": server.port,
        "dbname": "warehouse",
        "username": user,
        "password": password,
    }
    return fields if server.sslmode == "verify-full" else fields | {"sslmode": server.sslmode}


def _kept_password(client: Any, name: str) -> str | None:
    try:
        kept = client.get_secret_value(SecretId=name)["SecretString"]
    except client.exceptions.ResourceNotFoundException:  # a secret without a value, too
        return None
    return str(json.loads(kept)["password"])


def _set_password(admin: psycopg.Connection, user: str, password: str) -> None:
    # Hashed here, so that the server never sees a password it could log.
    verifier = admin.pgconn.encrypt_password(password.encode(), user.encode(), b"scram-sha-256").decode()
    admin.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(user), sql.Literal(verifier)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare both servers, and say what was done."""
    parser = argparse.ArgumentParser(prog="python -m infra.aws_roles", description=__doc__)
    for server in ("warehouse", "prefect"):
        parser.add_argument(f"--{server}", required=True, metavar="HOST[:PORT]")
        parser.add_argument(f"--{server}-admin", required=True, metavar="SECRET")
    parser.add_argument("--sslmode", choices=("verify-full", "disable"), default="verify-full")
    given = parser.parse_args(arguments)
    client = credentials().get_secrets_manager_client()
    lines = prepare_warehouse(
        _server(given.warehouse, given.warehouse_admin, given.sslmode), client, settings().secrets_prefix
    )
    lines += prepare_prefect(_server(given.prefect, given.prefect_admin, given.sslmode), client)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _server(address: str, admin_secret: str, sslmode: SslMode) -> Server:
    host, _, port = address.partition(":")
    return Server(host, int(port or 5432), admin_secret, sslmode)


if __name__ == "__main__":
    sys.exit(main())
