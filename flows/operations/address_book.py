"""Addresses, read ahead and remembered: a watch has to tell that the store of addresses is away.

Those that are in blocks are read by plain HTTP, without Prefect's code.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from flows.access import addresses
from flows.declare.source import Source
from flows.operations.channels import DEFAULT, Channel, channel_of_environment
from flows.operations.prefect_api import PrefectApi, PrefectDown
from flows.sources import SOURCES
from flows.values.connection import DatabaseConnection
from flows.values.errors import MedallionError
from flows.values.settings import settings

_KEPT = timedelta(minutes=5)
_SECONDS = 15.0


@dataclass(slots=True)
class AddressBook:
    """Channels by name, the warehouse, and the URLs of sources. What was read once stays known."""

    names: Iterable[str]
    api: PrefectApi | None = None
    _channels: dict[str, Channel] = field(default_factory=dict, init=False, repr=False)
    _warehouse: DatabaseConnection | None = field(default=None, init=False, repr=False)
    _read_at: datetime | None = field(default=None, init=False)
    _block_read_at: datetime | None = field(default=None, init=False)

    def channel(self, name: str) -> Channel | None:
        """The channel of that name, as it was last read; None if it has no address."""
        return self._channels.get(name)

    async def read_channels(self, now: datetime) -> None:
        """Read the channels' addresses again if they are older than five minutes; keep them if that fails."""
        missing = []
        for name in self.names:
            channel = channel_of_environment(name)
            if channel is not None:
                self._channels[name] = channel
            else:
                missing.append(name)
        if not missing or _is_fresh(self._read_at, now):
            return
        try:
            async with asyncio.timeout(_SECONDS):
                found = await self._blocks(
                    {("alerts" if name == DEFAULT else f"alerts-{name}"): name for name in missing}
                )
        except (PrefectDown, TimeoutError):
            return  # at the next round again
        for name in missing:
            if (data := found.get(name)) is not None and data.get("webhook"):
                self._channels[name] = Channel(name, str(data["webhook"]), str(data.get("form") or "json"))
            else:
                self._channels.pop(name, None)
        self._read_at = now

    async def warehouse(self, now: datetime) -> DatabaseConnection:
        """The warehouse as its loader.

        Raises:
            MedallionError: it is not configured, or where that is kept does not answer and never did.
        """
        if settings().warehouse_url is not None:
            return addresses.warehouse()
        if settings().secrets_prefix:
            self._warehouse = await asyncio.to_thread(addresses.warehouse)  # it asks the network
            return self._warehouse
        if self.api is not None and not self.api.embedded:
            if self._warehouse is not None and _is_fresh(self._block_read_at, now):
                return self._warehouse
            try:
                data = (await self._blocks({"warehouse": "warehouse"})).get("warehouse")
            except PrefectDown:
                if self._warehouse is not None:
                    return self._warehouse
            else:
                if data is not None:
                    self._warehouse, self._block_read_at = DatabaseConnection("warehouse", str(data["loader"])), now
                    return self._warehouse
        if (stack := addresses.embedded_stack()) is not None:
            return DatabaseConnection("warehouse", addresses.embedded_url(stack, "warehouse_loader"))
        return addresses.warehouse()

    async def urls(self, now: datetime) -> dict[str, str]:
        """The connection URLs of the warehouse and of sources, by name; without those that are not configured here."""
        found: dict[str, str] = {}
        with suppress(MedallionError):
            found["warehouse"] = (await self.warehouse(now)).url
        missing = {}
        sources: Iterable[Source] = SOURCES
        for source in sources:
            if source.connection is None:
                continue
            if (at := addresses.configured(source.connection, os.environ)) is not None:
                found[f"source {source.name}"] = at.url
            else:
                missing[f"source-{source.connection}".replace("_", "-")] = f"source {source.name}"
        try:
            blocks = await self._blocks(missing)
        except PrefectDown:
            blocks = {}
        return found | {name: str(data.get("url") or data.get("base_url") or "") for name, data in blocks.items()}

    async def _blocks(self, documents: Mapping[str, str]) -> dict[str, Mapping[str, Any]]:
        """What blocks contain; `documents` has the name to give for each block's."""
        if not documents or self.api is None or self.api.embedded:
            return {}  # the embedded stack's addresses are in its own file
        wanted = {"block_documents": {"name": {"any_": [*documents]}}, "include_secrets": True}
        found = await self.api.ask_all("/block_documents/filter", wanted)
        return {documents[entry["name"]]: entry["data"] for entry in found if entry["name"] in documents}


def _is_fresh(read_at: datetime | None, now: datetime) -> bool:
    return read_at is not None and timedelta() <= now - read_at < _KEPT
