"""What a flow that follows a source gives to the source's kind, and what it reports back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from flows.declare.source import Loadable, Source
from flows.values.connection import DatabaseConnection
from flows.values.errors import MedallionError

S = TypeVar("S", bound=Source)


@dataclass(slots=True)
class Lag:
    """How far raw is behind its source: bytes of its log, and seconds since the first change that raw lacks."""

    bytes: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Progress:
    """What following has done so far. `failing`: tables that do not follow, with what their last load said."""

    commits: int = 0
    changes: int = 0
    last_commit: datetime | None = None
    lag: Lag = field(default_factory=Lag)
    failing: dict[str, MedallionError] = field(default_factory=dict)


@dataclass(slots=True)
class Following(Generic[S]):
    """A source that is followed.

    `load`: an ordinary load of a table, for its snapshot and whatever following cannot do; it raises what it raises.
    `stretch_ended` is called with the batches of tables whose counts are final. `tell` gets a line for people now and
    then, and `note` is called every few seconds. `until_caught_up`: end once everything is loaded that the source had
    committed when following began.
    """

    warehouse: DatabaseConnection
    address: Any
    source: S
    tables: Sequence[Loadable]
    run_id: int | None
    load: Callable[[str], Awaitable[None]]
    stretch_ended: Callable[[list[int]], Awaitable[None]]
    tell: Callable[[str], None]
    note: Callable[[Progress], Awaitable[None]]
    until_caught_up: bool = False
    seconds: float | None = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    progress: Progress = field(default_factory=Progress)
    _began: float = field(default_factory=time.monotonic)

    @property
    def is_over(self) -> bool:
        """Whether it was told to stop, or its time is up."""
        return self.stop.is_set() or (self.seconds is not None and time.monotonic() - self._began >= self.seconds)
