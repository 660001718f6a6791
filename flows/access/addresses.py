"""Connection URLs: from the environment first, then Secrets Manager if it is configured, then Prefect blocks, then
the embedded stack.

MEDALLION_WAREHOUSE_URL              postgresql://loader:…@host/warehouse
MEDALLION_WAREHOUSE_TRANSFORMER_URL  the same database as the role that builds models (default: the loader)
MEDALLION_WAREHOUSE_READER_URL       the same database as the role that only reads gold
MEDALLION_WAREHOUSE_REVIEWER_URL     the same database as the role that reviews pull requests (default: the transformer)
MEDALLION_WAREHOUSE_DASHBOARD_URL    the same database as the role of the dashboard, which only reads
MEDALLION_WAREHOUSE_APPROVER_URL     the same database as a person who may decide, see approver()
MEDALLION_SOURCE_SHOP_URL            a source database, or an API's base URL
MEDALLION_SOURCE_MARKETING_KEY       an API's key, password, token or client secret
MEDALLION_SOURCE_MARKETING_USER      the user or client id that goes with it
MEDALLION_SOURCE_MARKETING_TOKEN     a first refresh token, if the API's authentication has one
MEDALLION_SOURCE_MARKETING_CERTIFICATE   a client certificate with its key, in PEM, or the path of such a file
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from asyncpg.exceptions import InsufficientPrivilegeError

from flows.access import kept_sessions, stores
from flows.access.rotated import open_rotated
from flows.access.sessions import leave_session
from flows.failures.missing_grants import note_refusal
from flows.values.connection import DatabaseConnection
from flows.values.errors import ConfigurationError
from flows.values.settings import settings

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Role = Literal["loader", "transformer", "reader"]

#: Connections served by the demo's API, if nothing else is configured.
DEMO_APIS = ("marketing", "currency")
#: The sources of `medallion demo`.
DEMO_SOURCES = ("shop", *DEMO_APIS)
#: The fields of a source's credential.
CREDENTIALS = ("key", "user", "token", "certificate")


def embedded_stack() -> Mapping[str, Any] | None:
    """The state written by `medallion up`, or None if there is no embedded stack."""
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
        # A copied or moved home: the servers in its state belong to another stack, or are broken.
        raise ConfigurationError(
            f"{path.name} was written for a stack in {facts['home']}",
            where=str(path.parent),
            fix="run `medallion up` to start one here",
        )
    return facts


def embedded_url(stack: Mapping[str, Any], key: str) -> str:
    """A connection URL of the embedded PostgreSQL.

    Raises:
        ConfigurationError: the server is not running. Another program may use its port now, and would get a password.
    """
    server, processes = stack["postgres"], Path("/proc")
    arguments: list[bytes] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        arguments = (processes / str(server["pid"]) / "cmdline").read_bytes().split(b"\0")
    if str(server["data"]).encode() in arguments or not (processes / "self").exists():
        return str(stack["urls"][key])
    raise ConfigurationError(
        "the embedded PostgreSQL is not running", where=str(settings().home), fix="run `medallion up`"
    )


def warehouse(role: Role = "loader") -> DatabaseConnection:
    """The warehouse's connection URL for a role.

    Raises:
        ConfigurationError: it is not configured.
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
    if (kept := stores.secret_document(f"warehouse-{role}")) is not None:
        return DatabaseConnection("warehouse", kept["url"], reread=partial(warehouse, role))
    if (block := stores.block_document("warehouse", embedded_stack())) is not None:
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
        fix="run `medallion up` for the embedded warehouse, or set MEDALLION_WAREHOUSE_URL, or register the block "
        "`warehouse`",
    )


def approver() -> DatabaseConnection | None:
    """The warehouse as a member of medallion_approver, by which a person answers in their own name; None: as the
    loader."""
    configured = settings().warehouse_approver_url
    return None if configured is None else DatabaseConnection("warehouse", configured.get_secret_value())


def reviewer() -> DatabaseConnection:
    """The warehouse as the role that builds unreviewed models; as the transformer if there is none.

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


def dashboard() -> DatabaseConnection:
    """The warehouse as the role of the dashboard, which reads gold and operations and writes nothing.

    Raises:
        ConfigurationError: it is not configured, or the embedded PostgreSQL is not running.
    """
    configured = settings().warehouse_dashboard_url
    if configured is not None:
        return DatabaseConnection("warehouse", configured.get_secret_value())
    if (kept := stores.secret_document("warehouse-dashboard")) is not None:
        return DatabaseConnection("warehouse", kept["url"], reread=dashboard)
    stack = embedded_stack()
    # Another warehouse than the embedded one has a dashboard of its own, or none.
    if stack is not None and settings().warehouse_url is None and "warehouse_dashboard" in stack["urls"]:
        return DatabaseConnection("warehouse", embedded_url(stack, "warehouse_dashboard"), reread=dashboard)
    raise ConfigurationError(
        "the warehouse's connection URL for the dashboard is not configured",
        where="warehouse",
        fix="run `medallion up` for the embedded warehouse, or set MEDALLION_WAREHOUSE_DASHBOARD_URL: the role "
        "medallion_dashboard, which infra/local/roles_dashboard.sql lets read and nothing else",
    )


def _no_reader() -> ConfigurationError:
    return ConfigurationError(
        "the warehouse's connection URL for readers is not configured",
        where="warehouse",
        fix="set MEDALLION_WAREHOUSE_READER_URL or the block's reader, or choose another role",
    )


@dataclass(frozen=True, slots=True)
class SourceAddress:
    """A source's URL, key and user, refresh token and client certificate. Its repr never shows them."""

    url: str = field(repr=False)
    key: str | None = field(default=None, repr=False)
    user: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)


def look_up(source: str, connection: str) -> SourceAddress:
    """A source's connection URL, or an API's base URL with a credential.

    Raises:
        ConfigurationError: it is not configured, or the embedded PostgreSQL is not running.
    """
    if found := configured(connection, os.environ):
        return found
    set_here = secrets_in(connection, os.environ)
    if (kept := _kept(f"source-{connection}")) is not None:
        return SourceAddress(str(kept["url"]), **{name: set_here[name] or kept.get(name) for name in CREDENTIALS})
    stack = embedded_stack() or {}
    if found := embedded(connection, stack):
        if f"{connection}_extractor" in (stack.get("urls") or {}):
            embedded_url(stack, f"{connection}_extractor")  # refuses a server that is gone
        return replace(found, **{name: value for name, value in set_here.items() if value})
    demo = ""
    if source in DEMO_SOURCES:
        # `medallion demo` begins with an empty warehouse: not what somebody wants who has one.
        demo = "run `medallion up --commerce` for the demo's API, or " if stack else "run `medallion demo`, or "
    raise ConfigurationError(
        f"the connection URL of source `{source}` is not configured",
        where=f"source {source}",
        fix=f"{demo}set MEDALLION_SOURCE_{connection.upper()}_URL, or register the block `source-{connection}`",
    )


def configured(connection: str, environment: Mapping[str, str]) -> SourceAddress | None:
    """A connection's URL from environment variables."""
    url = environment.get(f"MEDALLION_SOURCE_{connection.upper()}_URL")
    return SourceAddress(url, **secrets_in(connection, environment)) if url else None


def secrets_in(connection: str, environment: Mapping[str, str]) -> dict[str, str | None]:
    """A connection's credentials from environment variables, by field."""
    return {name: environment.get(f"MEDALLION_SOURCE_{connection.upper()}_{name.upper()}") for name in CREDENTIALS}


def embedded(connection: str, stack: Mapping[str, Any]) -> SourceAddress | None:
    """A connection's URL from the embedded stack: one of its databases, or the demo's API."""
    if f"{connection}_extractor" in (stack.get("urls") or {}):
        return SourceAddress(stack["urls"][f"{connection}_extractor"])
    commerce = stack.get("commerce")
    if commerce and connection in DEMO_APIS:
        return SourceAddress(commerce["url"], commerce["api_key"])
    return None


def _kept(name: str) -> Mapping[str, Any] | None:
    """A source's connection URL from Secrets Manager, or else from its Prefect block."""
    return stores.secret_document(name) or stores.block_document(name, embedded_stack())


@asynccontextmanager
async def connect(
    address: DatabaseConnection,
    *,
    side: Literal["source", "warehouse"],
    application: str = "medallion",
    keep: bool = False,
) -> AsyncIterator[Connection[Record]]:
    """An open connection. A source is opened read-only. `keep`: see `kept_sessions`.

    A refused password is looked up again in its store, with retries: a rotation changes the database and the store one
    after the other.

    Raises:
        MedallionError: it cannot be opened; the text does not contain the password.
    """
    session = await kept_sessions.take_kept(address, side, application) if keep else None
    if session is None:
        session = kept_sessions.KeptSession(*await open_rotated(address, side, application))
    connection, ended_well = session.connection, False
    try:
        yield connection
        ended_well = True
    except InsufficientPrivilegeError as problem:
        await note_refusal(problem, side, session.accepted)
        raise
    finally:
        if not connection.is_closed() and not (keep and ended_well and kept_sessions.keep(session, side)):
            await leave_session(connection)


def transformer() -> DatabaseConnection:
    """The transformer's connection URL with a password that works now, for callers that do not look it up: dbt, gates.

    Must not be called in a running event loop.

    Raises:
        MedallionError: it is not configured, or cannot be reached.
    """
    address = warehouse("transformer")
    if address.reread is None:
        return address

    async def tried() -> DatabaseConnection:
        connection, accepted = await open_rotated(address, "warehouse", "medallion")
        await leave_session(connection)
        return accepted

    return asyncio.run(tried())
