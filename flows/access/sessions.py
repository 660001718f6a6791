"""PostgreSQL sessions: their settings, and the errors when they cannot be opened."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Literal

import asyncpg

from flows.failures.diagnose import CONNECTION_LOST, explain
from flows.values.connection import DatabaseConnection
from flows.values.errors import ConfigurationError
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# Text output must be the same at source and warehouse, since cursors and key fingerprints are compared as text.
_SESSION = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "jit": "off",
}


async def open_session(
    address: DatabaseConnection, side: Literal["source", "warehouse"], application: str
) -> Connection[Record]:
    """One attempt to open a session; sessions of sources are read-only.

    Raises:
        MedallionError: it cannot be opened; the text does not contain the password.
    """
    if side == "source" and "target_session_attrs=read-write" in address.url:
        # It selects servers by whether sessions may write, and ours may not: no server would ever match.
        raise ConfigurationError(
            "target_session_attrs=read-write matches no server, because sources are opened read-only",
            where=address.safe_address,
            fix="write target_session_attrs=primary in the source's URL or block",
        )
    session = dict(_SESSION, application_name=application)
    session["statement_timeout"] = str(int(settings().statement_timeout_seconds * 1000))
    # A load's transaction in the warehouse is idle while its source is slow. At the source, transactions must not stay
    # open forever: migrations of the application wait for them, and every other session waits for the migration.
    session["idle_in_transaction_session_timeout"] = session["statement_timeout"] if side == "source" else "0"
    if side == "source":
        session["default_transaction_read_only"] = "on"
        # Rows hidden by a policy would look like deleted ones: a query that a policy would filter fails instead.
        session["row_security"] = "off"
    else:
        # All names are schema-qualified. By default the schema named like the role comes first, and anyone who may
        # create schemas could put functions there that another role's statements would call.
        session["search_path"] = "pg_catalog"
    try:
        return await asyncpg.connect(
            address.url,
            timeout=settings().connect_timeout_seconds,
            server_settings=session,
            statement_cache_size=0,  # poolers in transaction mode do not keep prepared statements
        )
    except (asyncpg.PostgresError, *CONNECTION_LOST, ValueError) as problem:
        if _lacks_certificate(problem, address.url):
            raise ConfigurationError(
                "a TLS certificate or key file is missing or cannot be read",
                where=address.name,
                fix="put the CA's certificate in ~/.postgresql/root.crt, or name it in the URL as "
                "?sslmode=verify-full&sslrootcert=/path/to/root.crt",
            ) from None
        if isinstance(problem, ValueError) and not isinstance(problem, ssl.SSLError):
            raise ConfigurationError(
                "the connection URL is invalid",
                where=address.name,
                fix="write it as postgresql://user:password@host:5432/database, with %40 for @ and so on",
            ) from None
        raise explain(problem, address.safe_address, side) from None


async def leave_session(connection: Connection[Record]) -> None:
    """Close it; abort it if it is in a transaction, so that the transaction is rolled back."""
    if connection.is_in_transaction():
        connection.terminate()
        return
    # A lost server must not hide the result, or the original error.
    with contextlib.suppress(*CONNECTION_LOST):
        await connection.close(timeout=5)


def _lacks_certificate(problem: Exception, url: str) -> bool:
    """asyncpg reports a missing default file as a configuration error, and a missing file from the URL as an OSError,
    which a missing socket raises, too."""
    if isinstance(problem, asyncpg.exceptions.ClientConfigurationError):
        return "certificate" in str(problem)
    return isinstance(problem, FileNotFoundError | PermissionError) and any(
        f"{name}=" in url for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl")
    )
