"""Capture of changes, set up, shown and dropped at its source."""

from __future__ import annotations

import os
from collections.abc import Sequence

from flows.access import addresses
from flows.access.addresses import connect
from flows.declare.source import Source
from flows.kinds.answers import CaptureStatus, Step, TriggerStatus
from flows.kinds.registry import kind_of
from flows.sources import SOURCES
from flows.values.connection import DatabaseConnection
from flows.verbs.find import find_source

_APPLICATION = "medallion capture"


def asks(name: str) -> bool:
    """Whether a person is asked before statements run at the source.

    Raises:
        DeclarationError: the source is not declared, or has no capture.
    """
    source = find_source(name)
    kind_of(source).refuse_capture(source)
    return kind_of(source).asks_before_capture


async def missing(name: str) -> Sequence[Step]:
    """The statements that are missing before changes can be captured. Changes nothing.

    Raises:
        DeclarationError: the source is not declared, or has no capture.
    """
    source = find_source(name)
    address = _owner(source) if kind_of(source).asks_before_capture else _reader(source)
    async with kind_of(source).open(source, address, f"source {name}", _APPLICATION) as origin:
        return await kind_of(source).missing_capture(source, origin)


async def set_up(name: str) -> Sequence[Step]:
    """Run what is missing; what is refused stays, with who may run it."""
    source = find_source(name)
    async with kind_of(source).open(source, _owner(source), f"source {name}", _APPLICATION) as origin:
        return await kind_of(source).set_up_capture(source, origin)


async def drop(name: str) -> Sequence[Step]:
    """Drop what capture has at the source; what is refused stays. Raw stays as it is, and the next load is refused."""
    source = find_source(name)
    async with kind_of(source).open(source, _owner(source), f"source {name}", _APPLICATION) as origin:
        return await kind_of(source).drop_capture(source, origin)


async def status(names: Sequence[str] | None = None) -> list[CaptureStatus | TriggerStatus]:
    """Capture of the named sources, or of all that are captured. Changes nothing."""
    captured = [source for source in SOURCES if kind_of(source).captures]
    found: list[CaptureStatus | TriggerStatus] = []
    async with connect(addresses.warehouse(), side="warehouse") as warehouse:
        for source in [find_source(name) for name in names] if names else captured:
            async with kind_of(source).open(source, _reader(source), f"source {source.name}", _APPLICATION) as origin:
                found.append(await kind_of(source).capture_status(warehouse, source, origin))
    return found


def _reader(source: Source) -> DatabaseConnection:
    """The source as the role that reads it. Of a kind without capture, whatever its address is, nothing is opened."""
    kind = kind_of(source)
    kind.refuse_capture(source)
    address: DatabaseConnection = kind.address(source)
    return address


def _owner(source: Source) -> DatabaseConnection:
    """The source as the owner of its tables, if that is configured; else as the role that reads it."""
    address = _reader(source)
    url = os.environ.get(f"MEDALLION_SOURCE_{str(source.connection).upper()}_OWNER_URL")
    return DatabaseConnection(f"{source.connection} (owner)", url) if url else address
