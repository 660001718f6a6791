"""PostgreSQL sessions: their settings, and the errors when they cannot be opened."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Literal

import asyncpg

from flows.access.prepared import Session
from flows.access.statements import RunSession, place_of
from flows.failures.diagnose import CONNECTION_LOST, explain
from flows.values.connection import DatabaseConnection
from flows.values.correlation import application_name
from flows.values.errors import ConfigurationError
from flows.values.identifiers import quote_literal
from flows.values.settings import settings
from flows.values.sqlstates import PROTOCOL_VIOLATION

if TYPE_CHECKING:
    from asyncpg import Connection, Record

# What the text of a value, a comparison or a statement depends on: cursors, keys and fingerprints are compared
# as text between source and warehouse. At the source, `pinned` sets it again in each transaction.
_SESSION = {
    "client_encoding": "UTF8",
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "xmloption": "content",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "transform_null_equals": "off",
    "array_nulls": "on",
    "jit": "off",
}
# Set by a role for people's sessions, they would end a load that waits for the other end.
_NO_LIMIT = {"idle_session_timeout": "0", "transaction_timeout": "0"}
_SINCE = {"idle_session_timeout": 14, "transaction_timeout": 17}


async def open_session(address: DatabaseConnection, side: Literal["source", "warehouse"], application: str) -> Session:
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
    try:
        return await _connected(address, side, application)
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


async def _connected(address: DatabaseConnection, side: Literal["source", "warehouse"], application: str) -> Session:
    named = {"application_name": application_name(application)}
    session = _settings(side) | named
    del session["client_encoding"]  # asyncpg sends it
    try:
        connection = await _connect(address, session)
    except asyncpg.PostgresError as problem:
        if problem.sqlstate != PROTOCOL_VIOLATION:
            raise
        # Some poolers reject start-up parameters that they do not track; others drop them. At the source, `pinned` then
        # sets them in each transaction: set for the session, they would stay with the pooler's connection, for its next
        # user.
        connection = await _connect(address, {})
    if side == "warehouse":
        # Its sessions hold advisory locks, so no pooler may share them between transactions.
        await connection.execute(_statements("set", _settings(side) | _no_limits(connection) | named))
    return connection


async def _connect(address: DatabaseConnection, session: dict[str, str]) -> Session:
    connection: RunSession = await asyncpg.connect(
        address.url,
        timeout=settings().connect_timeout_seconds,
        server_settings=session,
        # Poolers in transaction mode do not keep prepared statements: `Session` prepares where there is none.
        statement_cache_size=0,
        connection_class=RunSession,
    )
    connection.place = place_of(address)
    return connection


def _settings(side: Literal["source", "warehouse"]) -> dict[str, str]:
    session = dict(_SESSION)
    session["statement_timeout"] = str(int(settings().statement_timeout_seconds * 1000))
    session["lock_timeout"] = lock_timeout()
    # A load's transaction in the warehouse is idle while its source is slow. At the source, transactions must not stay
    # open forever: migrations of the application wait for them, and every other session waits for the migration.
    session["idle_in_transaction_session_timeout"] = session["statement_timeout"] if side == "source" else "0"
    if side == "source":
        session["default_transaction_read_only"] = "on"
        session["default_transaction_isolation"] = "read committed"
        # Rows hidden by a policy would look like deleted ones: a query that a policy would filter fails instead.
        session["row_security"] = "off"
    else:
        # All names are schema-qualified. By default the schema named like the role comes first, and anyone who may
        # create schemas could put functions there that another role's statements would call.
        session["search_path"] = "pg_catalog"
        # Amounts of money are stored as an integer of the smallest unit, which depends on this setting.
        session["lc_monetary"] = "C"
    return session


def lock_timeout() -> str:
    """How long a statement waits for a lock, in milliseconds. Not without end: who came later would queue behind it."""
    return str(max(1, round(settings().table_lock_wait_seconds * 1000)))


def _no_limits(connection: Connection[Record]) -> dict[str, str]:
    version = connection.get_server_version().major
    return {name: value for name, value in _NO_LIMIT.items() if version >= _SINCE.get(name, 0)}


def _statements(verb: str, session: dict[str, str]) -> str:
    quoted = {name: quote_literal(value) for name, value in session.items() if name != "search_path"}
    lists = {name: value for name, value in session.items() if name == "search_path"}
    return "; ".join(f"{verb} {name} = {value}" for name, value in (quoted | lists).items())


def pinned(connection: Connection[Record], application: str, *, sees_a_part: bool = False) -> str:
    """SQL that sets, for one transaction at a source, all that the text of a value or a comparison depends on.

    Settings of the role, of the database, or left behind by a pooler's other users do not count then.
    `sees_a_part`: rows that a policy hides from our role do not count, as declared, and are not refused.
    """
    session = _settings("source") | _no_limits(connection) | {"lc_monetary": "C", "search_path": "pg_catalog, public"}
    del session["default_transaction_read_only"], session["default_transaction_isolation"]  # of the next transaction
    session |= {"application_name": application_name(application)} | ({"row_security": "on"} if sees_a_part else {})
    return _statements("set local", session)


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
