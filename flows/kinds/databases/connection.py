"""Databases other than PostgreSQL as sources: rows as Arrow batches, written as CSV for COPY.

SQLite through its ADBC driver; MySQL, MariaDB and SQL Server through ODBC (arrow-odbc). Their calls block, so each
connection lives in a thread of its own. No Python object is made per row.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from flows.declare.database import Engine
from flows.kinds.databases.dialects import DIALECTS, Dialect
from flows.landing.csv import CHUNK_ROWS
from flows.values.connection import DatabaseConnection
from flows.values.errors import ConfigurationError, MedallionError, SourceError, SourceUnavailable

T = TypeVar("T")

# Limit of the buffer between ODBC and Arrow. Its size is rows times the longest possible value, so wide rows need
# smaller batches.
_BUFFER_BYTES = 16_000_000
_PORTS = {"mysql": 3306, "mssql": 1433}
_DRIVERS = {"mysql": "MariaDB Unicode", "mssql": "ODBC Driver 18 for SQL Server"}
_URLS = {
    "mysql": "mysql://user:password@host:3306/database",
    "mssql": "mssql://user:password@host:1433/database",
    "sqlite": "sqlite:///folder/file.db (four slashes for an absolute path)",
}
# Native codes: unreachable, gone, lost, shutting down, too many connections, lock timeouts and deadlocks.
_TRANSIENT = frozenset([1040, 1053, 1205, 1213, 1927, 2002, 2003, 2006, 2013, 2055])
_LOGIN = frozenset([1044, 1045, 1049, 1698, 4060, 18456])
_ODBC = re.compile(r"State: (\w{5}), Native error: (-?\d+)")


class Reader:
    """One connection to a foreign source, in one snapshot from `begin` on."""

    def __init__(self, engine: Engine, where: str) -> None:
        self.dialect: Dialect = DIALECTS[engine]
        self.where = where
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="medallion-source")
        self._connection: Any = None

    async def _call(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, copy_context().run, work)
        except MedallionError:
            raise
        except Exception as problem:
            raise explain(problem, self.where) from None

    async def open(self, address: DatabaseConnection, timeout_seconds: float) -> None:
        """Connect, read-only."""
        engine = self.dialect.engine
        if engine == "sqlite":
            self._connection = await self._call(lambda: _open_sqlite(address))
        else:
            self._connection = await self._call(lambda: _open_odbc(engine, address, timeout_seconds))
        for statement in self.dialect.session:
            await self._call(functools.partial(self._connection.execute, statement))

    async def begin(self) -> None:
        """Begin the transaction; all reads from here on see its snapshot.

        MySQL takes it now, SQL Server at the next read; SQLite took it at its first read.

        Raises:
            SourceError: the source cannot give one.
        """
        for statement in self.dialect.begin:
            await self._call(functools.partial(self._connection.execute, statement))

    async def execute(self, statement: str) -> None:
        """Run a statement that answers nothing."""
        await self._call(functools.partial(self._connection.execute, statement))

    async def rows(self, query: str) -> list[dict[str, Any]]:
        """A small result as plain values."""
        found: list[dict[str, Any]] = []
        async for batch in self.batches(query, longest=8192):
            found += batch.to_pylist()
        return found

    async def batches(self, query: str, *, longest: int) -> AsyncGenerator[Any, None]:
        """The query's rows as Arrow batches; `longest` bounds the bytes of a text in them."""
        if self.dialect.engine == "sqlite":
            reader = await self._call(lambda: _read_sqlite(self._connection, query))
        else:
            reader = await self._call(
                lambda: self._connection.read_arrow_batches(
                    query,
                    batch_size=CHUNK_ROWS,
                    max_bytes_per_batch=_BUFFER_BYTES + longest * 4,
                    max_text_size=longest,
                    fetch_concurrently=False,
                )
            )
        following = functools.partial(next, iter(reader), None)
        try:
            while (batch := await self._call(following)) is not None:
                yield batch
        finally:
            # In the connection's own thread, after a fetch that may still be running there.
            self._thread.submit(_let_go, reader)

    def close(self) -> None:
        """Close the connection after a running query ends, without waiting for it."""
        connection, self._connection = self._connection, None
        if connection is not None and hasattr(connection, "close"):
            self._thread.submit(connection.close)
        del connection
        self._thread.shutdown(wait=False)


def _let_go(reader: Any) -> None:
    if hasattr(reader, "close"):
        reader.close()


@asynccontextmanager
async def open_reader(
    engine: Engine, address: DatabaseConnection, where: str, timeout_seconds: float
) -> AsyncIterator[Reader]:
    """A connection to a foreign source, not yet in a snapshot.

    Raises:
        ConfigurationError: a package or driver is missing, or the connection URL or the password is wrong.
        SourceUnavailable: the server does not respond.
    """
    reader = Reader(engine, where)
    try:
        await reader.open(address, timeout_seconds)
        yield reader
    finally:
        reader.close()


def explain(problem: Exception, where: str) -> MedallionError:
    """A driver's error as our error. Its text may quote values, so only its codes are used."""
    if isinstance(problem, ImportError | OSError) and not isinstance(problem, ConnectionError | TimeoutError):
        return _missing(where, problem)
    text = str(problem)
    if found := _ODBC.search(text):
        state, native = found[1], int(found[2])
        what = f"the source answered SQLSTATE {state}, error {native}"
        if native in _LOGIN or state == "28000":
            return ConfigurationError(
                what, where=where, fix="check user, password and database in the source's URL, then run again"
            )
        if state == "01000" and "Can't open lib" in text:
            return ConfigurationError(
                "the ODBC driver is not installed",
                where=where,
                fix="install it (Debian: odbc-mariadb; SQL Server: msodbcsql18), or name another with ?driver=",
            )
        if native in _TRANSIENT or state[:2] == "08":
            return SourceUnavailable(
                what, where=where, fix="the load is retried automatically, from the last commit", retryable=True
            )
        return SourceError(what, where=where, fix="look the error up in the source's manual, by its number")
    if "too large to be written into the allocated buffer" in text:
        return SourceError(
            "a value is longer than its column's type allows",
            where=where,
            fix="declare the column in as_text: its values are measured first",
        )
    if "database is locked" in text or "SQLITE_BUSY" in text:
        return SourceUnavailable(
            "the file is locked by its writer", where=where, fix="the load is retried automatically",
            retryable=True,
        )  # fmt: skip
    if "no such table" in text or "no such column" in text or "unable to open" in text:
        return SourceError(
            "the file, or a table or column in it, cannot be read",
            where=where,
            fix="check the path in the source's URL and the declaration in flows/sources",
        )
    return SourceError(
        f"the driver failed ({type(problem).__name__})",
        where=where,
        fix="try the query of `medallion plan` with the engine's own client; run again",
    )


def _missing(where: str, problem: Exception) -> ConfigurationError:
    system = "" if isinstance(problem, ImportError) else ", and the ODBC driver manager (Debian: libodbc2)"
    return ConfigurationError(
        f"the driver for this kind of database is not installed ({type(problem).__name__})",
        where=where,
        fix=f"run `uv sync --extra databases`{system}, then again",
    )


def _bad_url(engine: Engine, name: str) -> ConfigurationError:
    return ConfigurationError(
        "the connection URL is invalid", where=name, fix=f"write it as {_URLS[engine]}, with %40 for @ and so on"
    )


def _open_sqlite(address: DatabaseConnection) -> Any:
    dbapi = importlib.import_module("adbc_driver_sqlite.dbapi")
    if not address.url.startswith("sqlite:///"):
        raise _bad_url("sqlite", address.name)
    path = unquote(address.url.removeprefix("sqlite:///").partition("?")[0])
    if not Path(path).is_file():
        raise SourceError(
            "the file does not exist", where=address.name, fix="check the path in the source's URL"
        )  # fmt: skip
    return dbapi.connect(f"file:{quote(path)}?mode=ro", autocommit=False)


def _read_sqlite(connection: Any, query: str) -> Any:
    cursor = connection.cursor()
    cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": str(CHUNK_ROWS)})
    cursor.execute(query)
    return _SqliteBatches(cursor)


class _SqliteBatches:
    """A cursor's batches; closing it closes the cursor, without which the connection would not close."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self._reader = cursor.fetch_record_batch()

    def __iter__(self) -> Any:
        return iter(self._reader)

    def close(self) -> None:
        self._reader.close()
        self._cursor.close()


def _open_odbc(engine: Engine, address: DatabaseConnection, timeout_seconds: float) -> Any:
    parts = urlsplit(address.url)
    try:
        port = parts.port or _PORTS[engine]
    except ValueError:
        raise _bad_url(engine, address.name) from None
    database = unquote(parts.path.removeprefix("/"))
    if not parts.hostname or not database or "@" in parts.path:
        raise _bad_url(engine, address.name)
    facts = {"Driver": _DRIVERS[engine], "Database": database}
    if engine == "mysql":
        # Streams rows if the driver supports it (3.1.17 and later); older ones ignore the first of the two.
        facts |= {"NO_CACHE": "1", "FORWARDONLY": "1", "CHARSET": "utf8mb4"}
        facts |= {"Server": parts.hostname, "Port": str(port)}
    else:
        facts |= {"Server": f"{parts.hostname},{port}", "Encrypt": "yes", "ApplicationIntent": "ReadOnly"}
    facts |= {"Driver" if key.lower() == "driver" else key: value for key, value in parse_qsl(parts.query)}
    facts |= {"UID": unquote(parts.username or ""), "PWD": unquote(parts.password or "")}
    text = ";".join(f"{key}={{{value.replace('}', '}}')}}}" for key, value in facts.items())
    module = importlib.import_module("arrow_odbc")
    return module.connect(connection_string=text, login_timeout_sec=max(1, int(timeout_seconds)))
