"""Time as the rounds of the watch measure it: on a busy machine a round takes longer, as may all that it notices."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

#: A watch that has not ended a round for so long measures nothing: from then on, seconds count.
_SILENT_SECONDS = 60.0


@dataclass
class Rounds:
    """Counts the rounds of a watch by the file that it touches after each. `seconds`: what a round takes when idle.

    `elapsed` is never more than the seconds that have passed: each round counts as `seconds`, however long it took.
    Without a watch, and when it is silent, the seconds themselves count.
    """

    alive: Path
    seconds: float
    now: Callable[[], float] = time.monotonic
    count: int = field(default=0, init=False)
    _elapsed: float = field(default=0.0, init=False)
    _seen: int | None = field(default=None, init=False)
    _since: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._since = self.now()
        self._seen = self._touched()

    def elapsed(self) -> float:
        """Seconds since the beginning, as an idle machine would have taken. Call it more often than rounds end."""
        now, touched = self.now(), self._touched()
        if touched is None:  # no watch has ended a round yet
            self._elapsed += now - self._since
            self._since = now
        elif touched != self._seen:
            self.count += 1
            self._elapsed += min(self.seconds, now - self._since)
            self._since = now
        elif now - self._since > _SILENT_SECONDS:
            self._elapsed += now - self._since - _SILENT_SECONDS
            self._since = now - _SILENT_SECONDS
        self._seen = touched
        return self._elapsed

    def _touched(self) -> int | None:
        with suppress(OSError):
            return self.alive.stat().st_mtime_ns
        return None
