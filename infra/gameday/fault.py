"""What a fault is: how it is made and ended, and which alerts it must and may raise."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from infra.gameday.rounds import Rounds
from infra.gameday.world import WATCH_SECONDS, World
from infra.gameday.writer import Writer

#: Runs are due every 30 seconds: on a busy machine, some are dropped because the one before is still active.
ANY_TIME = ("flow run dropped *",)

Severity = Literal["warning", "error", "critical"]


@dataclass
class Scene:
    """What a fault acts on. `undo` is worked off when the fault ends, the last entry first."""

    world: World
    writer: Writer
    chance: random.Random
    patience: float = 240.0
    undo: ExitStack = field(default_factory=ExitStack)
    rounds: Rounds = field(init=False)

    def __post_init__(self) -> None:
        self.rounds = Rounds(self.world.home / "watch.alive", WATCH_SECONDS)

    def at_source(self, statement: str) -> None:
        """Execute a statement in the source database, as its administrator."""
        with self.world.source.session() as connection:
            connection.execute(statement)

    def until(self, condition: Callable[[], bool], what: str, patience: float | None = None) -> None:
        """Wait for a condition. Raises Overdue if it does not come true in time, as the watch's rounds measure it."""
        deadline = self.rounds.elapsed() + (patience or self.patience)
        while not condition():
            if self.rounds.elapsed() > deadline:
                raise Overdue(what)
            time.sleep(0.2)


class Overdue(Exception):
    """Something that was awaited did not happen."""


@dataclass(frozen=True)
class Fault:
    """A fault.

    `make` causes it and leaves in `scene.undo` what ends it. `must`: patterns of alerts (`load failed game.*`), each of
    which must be sent, and be resolved when the fault is over; `may`: what else may be sent because of it. Anything
    else woke somebody for nothing. A fault without `must` is one that the platform survives without an alert: it lasts
    `seconds`. `by_ping`: it is noticed by the dead man's switch.
    """

    name: str
    what: str
    make: Callable[[Scene], None]
    must: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    severity: Severity | None = None
    seconds: float = 0.0
    by_ping: bool = False

    def expects(self, alert: str) -> bool:
        """Whether an alert may be sent because of this fault."""
        return any(fnmatchcase(alert, pattern) for pattern in (*self.must, *self.may, *ANY_TIME))
