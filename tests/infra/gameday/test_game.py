"""A game that is stopped stops, whatever fails meanwhile; a fault that cannot be ended is a problem of its line."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

from infra.gameday.fault import Fault, Scene
from infra.gameday.game import Game
from infra.gameday.invariants import Reader
from infra.gameday.outcome import Outcome
from infra.gameday.receiver import Receiver
from infra.gameday.world import World
from infra.gameday.writer import Writer


def played(monkeypatch: pytest.MonkeyPatch, problem: type[BaseException]) -> Outcome:
    """The outcome of a fault that raises while it is made, and whose end fails."""

    def make(scene: Scene) -> None:
        scene.undo.callback(_fail)
        raise problem

    def looked(*_: Any) -> None:
        reader.looks += 1

    monkeypatch.setattr(Game, "_recovered", lambda *_: True)
    monkeypatch.setattr(Game, "_look", looked)
    reader = SimpleNamespace(looks=0)
    writer = SimpleNamespace(pause=lambda: None, lives=lambda: True)
    scene = Scene(
        cast(World, SimpleNamespace(receiver=Receiver(), home=Path())), cast(Writer, writer), random.Random(1)
    )
    return Game([], 1)._play_one(scene, Fault("broken", "…", make, seconds=1), cast(Reader, reader))


def _fail() -> None:
    raise psycopg.errors.UndefinedTable


def test_a_stop_is_not_hidden_by_a_fault_whose_end_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        played(monkeypatch, KeyboardInterrupt)


def test_a_fault_that_can_neither_be_made_nor_ended_is_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert played(monkeypatch, psycopg.errors.LockNotAvailable).problems == [
        "LockNotAvailable (55P03)",
        "UndefinedTable (42P01)",
    ]
