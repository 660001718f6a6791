"""`python -m infra.roles`: create roles and databases on one PostgreSQL, with passwords from files; for containers.

The warehouse and the Prefect server's database share the server. Idempotent: existing roles are kept and get the
passwords of the files. Each file is named after its content, as Docker and Kubernetes mount secrets:
`admin_password`, `loader_password`, `transformer_password`, `reader_password`, `prefect_password`.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from flows.values.errors import ConfigurationError, MedallionError
from infra.local.roles import cluster_file, ensure_database, grant_warehouse

#: The file with a role's password is called after the last part of its name.
ROLES = ("medallion_loader", "medallion_transformer", "medallion_reader", "prefect")


def prepare(address: str, passwords: Mapping[str, str]) -> list[str]:
    """Roles, databases and privileges. `address` is the administrator's, as libpq reads it, without a database.

    Returns a line for each thing done, none of them secret. Raises psycopg.Error.
    """
    with psycopg.connect(address, dbname="postgres", autocommit=True) as admin:
        admin.execute(cluster_file())
        if admin.execute("select from pg_roles where rolname = 'prefect'").fetchone() is None:
            admin.execute("create role prefect login")
        for role in ROLES:
            _set_password(admin, role, passwords[_file(role)])
        for database in ("warehouse", "prefect"):
            ensure_database(admin, database)
        # Since PostgreSQL 16 who creates a role may not act as it yet, which giving it a database asks for.
        admin.execute("grant prefect to current_user")
        admin.execute("alter database prefect owner to prefect")
        admin.execute("revoke connect, temporary on database postgres, prefect from public")
    with psycopg.connect(address, dbname="warehouse", autocommit=True) as admin:
        grant_warehouse(admin)
    with psycopg.connect(address, dbname="prefect", autocommit=True) as admin:
        # Prefect's own migration asks for it, in a role that needs no right to create extensions by that.
        admin.execute("create extension if not exists pg_trgm")
    return [f"password set for {role}" for role in ROLES] + [
        "made  database warehouse and its privileges",
        "made  database prefect, owned by prefect",
    ]


def read_passwords(folder: Path) -> dict[str, str]:
    """The passwords in a folder of secrets, by file name.

    Raises:
        ConfigurationError: a file is missing or empty.
    """
    found = {}
    for name in ("admin_password", *map(_file, ROLES)):
        file = folder / name
        found[name] = file.read_text().rstrip("\r\n") if file.is_file() else ""
        if not found[name]:
            raise ConfigurationError(
                "the file contains no password",
                where=str(file),
                fix="mount the secret with this name, as docs/containers.md shows",
            )
    return found


def _file(role: str) -> str:
    return f"{role.removeprefix('medallion_')}_password"


def _set_password(admin: psycopg.Connection, role: str, password: str) -> None:
    # Hashed here, so that the server never sees a password it could log.
    verifier = admin.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    admin.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(verifier)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the server, and say what was done. Exit code 3 where a secret is missing or the server failed."""
    parser = argparse.ArgumentParser(prog="python -m infra.roles", description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", default="5432")
    parser.add_argument("--admin", required=True, metavar="ROLE")
    parser.add_argument("--passwords", required=True, type=Path, metavar="FOLDER")
    # As for every other address: whoever answers does not decide whether the administrator's password is sent.
    parser.add_argument("--sslmode", default="verify-full", choices=["verify-full", "verify-ca", "require", "disable"])
    given = parser.parse_args(arguments)
    try:
        passwords = read_passwords(given.passwords)
        address = make_conninfo(
            host=given.host,
            port=given.port,
            user=given.admin,
            password=passwords["admin_password"],
            sslmode=given.sslmode,
            connect_timeout=10,
        )
        sys.stdout.write("\n".join(prepare(address, passwords)) + "\n")
    except MedallionError as problem:
        sys.stderr.write(f"{problem}\n")
        return problem.exit_code
    except psycopg.Error as problem:
        # PostgreSQL's own words may quote a statement, and with it a password's hash.
        code = f"SQLSTATE {problem.sqlstate}" if problem.sqlstate else "no response"
        sys.stderr.write(f"{given.host}:{given.port} failed: {type(problem).__name__}, {code}\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
