"""Sessions whose password was rotated since it was looked up."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

from flows.access.prepared import Session
from flows.access.sessions import open_session
from flows.values.connection import DatabaseConnection
from flows.values.errors import ConfigurationError
from flows.values.settings import settings

# SQLSTATE invalid_password, as `explain` writes it.
_REFUSED_PASSWORD = "answered 28P01"  # noqa: S105 # nosec B105 - a state, not a password
_ROTATION_POLL_SECONDS = 1.0


async def open_rotated(
    address: DatabaseConnection, side: Literal["source", "warehouse"], application: str
) -> tuple[Session, DatabaseConnection]:
    """A connection, and the URL that opened it: a refused password is looked up in its store again."""
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
