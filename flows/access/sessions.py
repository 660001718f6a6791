"""A session of ours with PostgreSQL: its settings, and in which words it fails to open."""

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

# Text forms must be the same at both ends, since cursors and key fingerprints are compared as text.
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
    """One try at a session; a source's may only read.

    Raises:
        MedallionError: it cannot be opened; in words without the password.
    """
    if side == "source" and "target_session_attrs=read-write" in address.url:
        # Told by whether sessions may write, and ours may not: no server would ever do.
        raise ConfigurationError(
            "target_session_attrs=read-write finds no server, because sources are opened for reading only",
            where=address.safe_address,
            fix="write target_session_attrs=primary in the source's URL or block",
        )
    session = dict(_SESSION, application_name=application)
    session["statement_timeout"] = str(int(settings().statement_timeout_seconds * 1000))
    # A load's transaction in the warehouse is idle while its source is slow. At the source ours must not stay open for
    # ever: migrations of the application wait for it, and everybody else behind them.
    session["idle_in_transaction_session_timeout"] = session["statement_timeout"] if side == "source" else "0"
    if side == "source":
        session["default_transaction_read_only"] = "on"
    else:
        # Every name is written with its schema. By default a schema called like the role comes first, and who may
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
                "a file with a certificate or key for TLS is not there or cannot be read",
                where=address.name,
                fix="put the authority's certificate in ~/.postgresql/root.crt, or name it in the URL as "
                "?sslmode=verify-full&sslrootcert=/path/to/root.crt",
            ) from None
        if isinstance(problem, ValueError) and not isinstance(problem, ssl.SSLError):
            raise ConfigurationError(
                "the URL cannot be read",
                where=address.name,
                fix="write it as postgresql://user:password@host:5432/database, with %40 for @ and so on",
            ) from None
        raise explain(problem, address.safe_address, side) from None


async def leave_session(connection: Connection[Record]) -> None:
    """Close it; one that stands in a transaction is cut off, so that nothing of it stays."""
    if connection.is_in_transaction():
        connection.terminate()
        return
    # A server that is gone must not hide what was done, or what went wrong, before it went.
    with contextlib.suppress(*CONNECTION_LOST):
        await connection.close(timeout=5)


def _lacks_certificate(problem: Exception, url: str) -> bool:
    """asyncpg tells a missing file of its own defaults as a wrong configuration, one that the URL names as the
    system's error; which a socket that is not there raises, too."""
    if isinstance(problem, asyncpg.exceptions.ClientConfigurationError):
        return "certificate" in str(problem)
    return isinstance(problem, FileNotFoundError | PermissionError) and any(
        f"{name}=" in url for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl")
    )
