"""What loads, runs and models used, kept for metrics. Nothing fails because it cannot be kept."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg

from flows.access import addresses
from flows.failures.diagnose import CONNECTION_LOST
from flows.models.environment import PREFIX_VARIABLE
from flows.observe.artifacts import NodeLine
from flows.state.usage import Usage, record_usage
from flows.values.errors import MedallionError

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_log = logging.getLogger(__name__)
_BUILT = ("model", "snapshot", "seed")


async def keep_usage(connection: Connection[Record], used: Sequence[Usage]) -> None:
    """Store what was used, if that is possible."""
    try:
        await record_usage(connection, used)
    except (asyncpg.PostgresError, *CONNECTION_LOST) as problem:
        _log.warning("what was used is not in ops.usage: %s", type(problem).__name__)


def used_by(load: Mapping[str, Any]) -> Usage:
    """That of a load, from the facts that its task returned."""
    return Usage(
        "load",
        load["source"],
        load["table"],
        "published",
        load["seconds"],
        load["used"]["cpu_seconds"],
        load["used"]["memory_bytes"],
        load["counts"]["rows_read"],
        load["counts"]["bytes"],
        load["requests"],
    )


def keep_usage_of_models(nodes: Iterable[NodeLine], prefix: str) -> None:
    """Store what the nodes of a build used, unless it was a private one."""
    used = [
        Usage("model", "", node.name, node.status, node.seconds, rows=node.rows)
        for node in nodes
        if node.kind in _BUILT and node.status not in ("skipped", "no-op")
    ]
    if not used or (os.environ.get(PREFIX_VARIABLE) and not prefix):
        return

    async def keep() -> None:
        async with addresses.connect(addresses.warehouse(), side="warehouse") as warehouse:
            await keep_usage(warehouse, used)

    try:
        asyncio.run(keep())
    except MedallionError as problem:  # the warehouse is away, which the build itself tells
        _log.warning("what models used is not in ops.usage: %s", type(problem).__name__)
