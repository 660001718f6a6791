"""Where things are. Environment first, then Secrets Manager where it is configured, then Prefect blocks, then the
embedded stack.

MEDALLION_WAREHOUSE_URL              postgresql://loader:…@host/warehouse
MEDALLION_WAREHOUSE_TRANSFORMER_URL  the same database as the role that builds models (default: the loader)
MEDALLION_WAREHOUSE_READER_URL       the same database as the role that only reads gold
MEDALLION_WAREHOUSE_REVIEWER_URL     the same database as the role that reviews pull requests (default: the transformer)
MEDALLION_SOURCE_SHOP_URL            a source database, or an API's base URL
MEDALLION_SOURCE_MARKETING_KEY       an API's key, password, token or client secret
MEDALLION_SOURCE_MARKETING_USER      the user or client id that goes with it
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from asyncpg.exceptions import InsufficientPrivilegeError

from flows.access.sessions import leave_session, open_session
from flows.kinds.api import Api
from flows.kinds.dlt import DltSource
from flows.kinds.postgres import Database
from flows.missing_grants import note_refusal
from flows.values.connection import ApiConnection, DatabaseConnection
from flows.values.errors import ConfigurationError
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Role = Literal["loader", "transformer", "reader"]

#: Connections that the demo's API answers, where nothing else is set.
DEMO_APIS = ("marketing", "currency")
#: The sources that `medallion demo` brings with it.
DEMO_SOURCES = ("shop", *DEMO_APIS)
# SQLSTATE invalid_password, as `explain` writes it.
_REFUSED_PASSWORD = "answered 28P01"  # noqa: S105 # nosec B105 - a state, not a password
_ROTATION_POLL_SECONDS = 1.0


def embedded_stack() -> Mapping[str, Any] | None:
    """What `medallion up` wrote down, or None when there is no embedded stack."""
    path = settings().home / "stack.json"
    try:
        facts: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as problem:
        raise ConfigurationError(
            f"{path.name} cannot be read ({type(problem).__name__})",
            where=str(path.parent),
            fix="run `medallion down`, delete the file, and run `medallion up`",
        ) from None
    if facts.get("home", str(settings().home)) != str(settings().home):
        # A copy of a home, or one that was moved: the servers named in it are another's, or no longer well.
        raise ConfigurationError(
            f"{path.name} was written for a stack in {facts['home']}",
            where=str(path.parent),
            fix="run `medallion up` to start one here",
        )
    return facts


def embedded_url(stack: Mapping[str, Any], key: str) -> str:
    """An address of the embedded PostgreSQL.

    Raises:
        ConfigurationError: the server is gone. Its port may be anybody's by now, who would be sent a password.
    """
    server, processes = stack["postgres"], Path("/proc")
    arguments: list[bytes] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        arguments = (processes / str(server["pid"]) / "cmdline").read_bytes().split(b"\0")
    if str(server["data"]).encode() in arguments or not (processes / "self").exists():
        return str(stack["urls"][key])
    raise ConfigurationError(
        "the embedded PostgreSQL does not run", where=str(settings().home), fix="run `medallion up`"
    )


def warehouse(role: Role = "loader") -> DatabaseConnection:
    """The warehouse's address for a role.

    Raises:
        ConfigurationError: nothing says where it is.
    """
    configured = settings().warehouse_url
    if role == "transformer":
        configured = settings().warehouse_transformer_url or configured
    if role == "reader" and configured is not None:
        configured = settings().warehouse_reader_url
        if configured is None:
            raise _no_reader()
    if configured is not None:
        return DatabaseConnection("warehouse", configured.get_secret_value())
    if (kept := _secret(f"warehouse-{role}")) is not None:
        return DatabaseConnection("warehouse", kept["url"], reread=partial(warehouse, role))
    if (block := _block("warehouse")) is not None:
        if block[role] is None:
            raise _no_reader()
        return DatabaseConnection("warehouse", block[role], reread=partial(warehouse, role))
    stack = embedded_stack()
    if stack is not None:
        return DatabaseConnection(
            "warehouse", embedded_url(stack, f"warehouse_{role}"), reread=partial(warehouse, role)
        )
    raise ConfigurationError(
        "the connection URL of the warehouse is not configured",
        where="warehouse",
        fix="run `medallion up` for the embedded one, or set MEDALLION_WAREHOUSE_URL, or register the block "
        "`warehouse`",
    )


def reviewer() -> DatabaseConnection:
    """The warehouse as the role that builds models nobody has read yet; as the transformer if there is none.

    Raises:
        ConfigurationError: neither is configured.
    """
    configured = settings().warehouse_reviewer_url
    if configured is not None:
        return DatabaseConnection("warehouse", configured.get_secret_value())
    address, stack = warehouse("transformer"), embedded_stack()
    urls = stack["urls"] if stack is not None else {}
    if address.url == urls.get("warehouse_transformer") and "warehouse_reviewer" in urls:
        return DatabaseConnection("warehouse", urls["warehouse_reviewer"])
    return address


def _no_reader() -> ConfigurationError:
    return ConfigurationError(
        "the warehouse's address for readers is not set",
        where="warehouse",
        fix="set MEDALLION_WAREHOUSE_READER_URL or the block's reader, or ask for another role",
    )


def database(source: Database) -> DatabaseConnection:
    """A source database's address.

    Raises:
        ConfigurationError: nothing says where it is.
    """
    variable = f"MEDALLION_SOURCE_{source.connection.upper()}_URL"
    if url := os.environ.get(variable):
        return DatabaseConnection(source.connection, url)
    if (block := _kept(f"source-{source.connection}")) is not None:
        return DatabaseConnection(source.connection, block["url"], reread=partial(database, source))
    stack = embedded_stack()
    key = f"{source.connection}_extractor"
    if stack is not None and key in stack["urls"]:
        return DatabaseConnection(source.connection, embedded_url(stack, key), reread=partial(database, source))
    raise _unknown_source(source.name, source.connection, variable)


def api(source: Api) -> ApiConnection:
    """An API's address, and the credential it wants.

    Raises:
        ConfigurationError: nothing says where it is.
    """
    variable = f"MEDALLION_SOURCE_{source.connection.upper()}_URL"
    key = os.environ.get(f"MEDALLION_SOURCE_{source.connection.upper()}_KEY")
    user = os.environ.get(f"MEDALLION_SOURCE_{source.connection.upper()}_USER")
    if url := os.environ.get(variable):
        return ApiConnection(source.connection, url, key, user)
    if (block := _kept(f"source-{source.connection}")) is not None:
        return ApiConnection(source.connection, block["url"], key or block["key"], user or block["user"])
    stack = embedded_stack()
    commerce = (stack or {}).get("commerce")
    if commerce and source.connection in DEMO_APIS:
        return ApiConnection(source.connection, commerce["url"], key or commerce["api_key"])
    raise _unknown_source(source.name, source.connection, variable)


def dlt(source: DltSource) -> ApiConnection | None:
    """What a dlt source's function is handed of our own: an address and a key. None when it asks for none.

    Raises:
        ConfigurationError: it asks, and nothing says where it is.
    """
    if source.connection is None:
        return None
    variable = f"MEDALLION_SOURCE_{source.connection.upper()}_URL"
    key = os.environ.get(f"MEDALLION_SOURCE_{source.connection.upper()}_KEY")
    if url := os.environ.get(variable):
        return ApiConnection(source.connection, url, key)
    if (block := _kept(f"source-{source.connection}")) is not None:
        return ApiConnection(source.connection, block["url"], key or block.get("key"))
    raise ConfigurationError(
        f"nothing says where {source.connection} is",
        where=f"source {source.name}",
        fix=f"set {variable}, or register the block `source-{source.connection}`",
    )


def _unknown_source(name: str, connection: str, variable: str) -> ConfigurationError:
    demo = "run `medallion demo` for the embedded one, or " if name in DEMO_SOURCES else ""
    return ConfigurationError(
        f"nothing says where {connection} is",
        where=f"source {name}",
        fix=f"{demo}set {variable}, or register the block `source-{connection}`",
    )


def _kept(name: str) -> Mapping[str, Any] | None:
    """A source's address from Secrets Manager, or else from its Prefect block."""
    return _secret(name) or _block(name)


def _secret(name: str) -> Mapping[str, Any] | None:
    """The secret of that name as plain values, when MEDALLION_SECRETS_PREFIX is set and somebody has filled it."""
    if not settings().secrets_prefix:
        return None
    from blocks.aws import secret  # imports prefect-aws, which takes two seconds
    from blocks.lookup import document_name

    return secret(document_name(name))


def _block(name: str) -> Mapping[str, Any] | None:
    """The Prefect block of that name as plain values, when a Prefect API that is not the embedded one is configured.

    The embedded stack's addresses stand in its own file, and asking its server for each would only cost time.
    """
    api_url = os.environ.get("PREFECT_API_URL")
    stack = embedded_stack()
    # Flow runs of `medallion worker` reach the embedded server through its relay.
    embedded = ((stack.get("prefect") or {}).get("api_url"), os.environ.get("MEDALLION_RELAY_URL")) if stack else ()
    if not api_url or api_url in embedded:
        return None
    from blocks.lookup import find  # imports Prefect, which takes a second

    return find(name)


@asynccontextmanager
async def connect(
    address: DatabaseConnection, *, side: Literal["source", "warehouse"], application: str = "medallion"
) -> AsyncIterator[Connection[Record]]:
    """An open connection. A source is opened read-only.

    A password that is refused is looked up again where it came from, and waited for: whoever rotates it changes the
    database and the store one after the other.

    Raises:
        MedallionError: it cannot be opened; in words without the password.
    """
    connection, accepted = await _open(address, side, application)
    try:
        yield connection
    except InsufficientPrivilegeError as problem:
        await note_refusal(problem, side, accepted)
        raise
    finally:
        if not connection.is_closed():
            await leave_session(connection)


def transformer() -> DatabaseConnection:
    """The transformer's address with a password that is accepted now, for what does not look it up again: dbt, gates.

    Not to be called where an event loop runs.

    Raises:
        MedallionError: nothing says where it is, or it cannot be reached.
    """
    address = warehouse("transformer")
    if address.reread is None:
        return address

    async def tried() -> DatabaseConnection:
        connection, accepted = await _open(address, "warehouse", "medallion")
        await leave_session(connection)
        return accepted

    return asyncio.run(tried())


async def _open(
    address: DatabaseConnection, side: Literal["source", "warehouse"], application: str
) -> tuple[Connection[Record], DatabaseConnection]:
    """A connection, and the address that opened it: a password that is refused is taken from its store again."""
    until = time.monotonic() + settings().rotation_wait_seconds
    while True:
        try:
            return await open_session(address, side, application), address
        except ConfigurationError as refused:
            if _REFUSED_PASSWORD not in refused.what or address.reread is None or time.monotonic() >= until:
                raise
            fresh = address.reread()
            if fresh.url == address.url:
                await asyncio.sleep(_ROTATION_POLL_SECONDS)
            address = fresh
