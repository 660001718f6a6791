"""What a round of the watch goes by, and what it comes to."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from flows.operations.alerts import Condition
from flows.operations.checks.check import Check
from flows.operations.checks.names import CANNOT_CHECK


@dataclass(frozen=True, slots=True)
class Clock:
    """This machine's clocks; a test drives others."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    elapsed: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Looked:
    """What a round came to. `good`: the warehouse was reached, alerts written down, and messages worked off."""

    good: bool
    found: int
    cannot: tuple[str, ...] = ()
    away: str | None = None


def cannot_check(check: Check, what: str) -> Condition:
    """The alert that a check could not be made."""
    fix = "read the log of `medallion watch`; what this check found before stays as it is"
    return Condition(CANNOT_CHECK, f"check {check.name}", "error", what, fix)
