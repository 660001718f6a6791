"""The clock of a game day: rounds of the watch, which take longer on a busy machine."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.gameday.rounds import Rounds


@dataclass
class Hands:
    """A clock that is moved by hand, and the file that a watch touches."""

    alive: Path
    second: float = 0.0
    ended: int = 0

    def now(self) -> float:
        return self.second

    def rounds(self, count: int, each: float, measured: Rounds) -> float:
        """So many rounds, each so long; returns what was measured in the end."""
        for _ in range(count):
            self.second += each
            self.ended += 1
            self.alive.touch()
            os.utime(self.alive, ns=(self.ended, self.ended))
            measured.elapsed()
        return measured.elapsed()


@pytest.fixture
def hands(tmp_path: Path) -> Hands:
    return Hands(tmp_path / "watch.alive")


def test_on_an_idle_machine_rounds_measure_seconds(hands: Hands) -> None:
    measured = Rounds(hands.alive, 2, hands.now)
    assert hands.rounds(30, 2, measured) == 60
    assert measured.count >= 29, "the first may have ended before"


def test_on_a_busy_machine_the_same_rounds_are_the_same_time(hands: Hands) -> None:
    hands.rounds(1, 2, Rounds(hands.alive, 2, hands.now))
    measured = Rounds(hands.alive, 2, hands.now)
    assert hands.rounds(30, 11, measured) == 60
    assert hands.second > 300


def test_without_a_watch_and_when_it_is_silent_seconds_count(hands: Hands) -> None:
    """Else a game with a dead watch would never end."""
    measured = Rounds(hands.alive, 2, hands.now)
    hands.second = 40
    assert measured.elapsed() == 40
    before = hands.rounds(1, 2, measured)
    hands.second += 59
    assert measured.elapsed() == before
    hands.second += 301
    assert measured.elapsed() == before + 300
