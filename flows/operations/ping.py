"""The dead man's switch: an address that expects a request regularly, and alerts if there is none."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

import httpx

from flows.operations.alerts import Condition
from flows.values.settings import settings

_log = logging.getLogger(__name__)
_SECONDS = 10.0
_TOLERATED = 3


@dataclass(slots=True)
class Ping:
    """Requests MEDALLION_WATCH_PING_URL, which is a secret: it is in no log and no alert."""

    _missed: int = field(default=0, init=False)
    _client: httpx.AsyncClient | None = field(default=None, init=False, repr=False)

    async def send(self) -> None:
        """Request the address once, if there is one."""
        if (address := settings().watch_ping_url) is None:
            return
        try:
            self._client = self._client or httpx.AsyncClient(timeout=_SECONDS, follow_redirects=True)
            async with asyncio.timeout(_SECONDS):  # also of an answer that drips
                missed = not (await self._client.get(address.get_secret_value())).is_success
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
            missed = True
        self._missed = self._missed + 1 if missed else 0
        if missed:
            _log.warning("the dead man's switch does not answer")

    def found(self) -> list[Condition]:
        """The alert that the address does not answer."""
        if self._missed < _TOLERATED:
            return []
        fix = "check MEDALLION_WATCH_PING_URL, and that this machine reaches it"
        return [Condition("watch ping fails", "watch", "warning", "the ping's address does not answer", fix)]

    async def close(self) -> None:
        """Close its connection."""
        if self._client is not None:
            await self._client.aclose()
