"""A game day as people play it, and two that are sabotaged: a game that does not notice that would prove nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.gameday.faults import FAULTS, Planned
from infra.gameday.game import Game
from infra.gameday.program import processes_of
from infra.local.service import finds_checkout
from tests.eventually import eventually

pytestmark = [pytest.mark.xdist_group("by itself"), pytest.mark.long]

_SIX = (
    "source refuses connections",
    "poison rows",
    "late commit",
    "API answers HTML",
    "run killed",
    "warehouse crashed",
)


def planned(*names: str) -> list[Planned]:
    known = {fault.name: fault for fault in FAULTS}
    return [Planned(known[name], 0.0) for name in names]


def test_six_faults_are_noticed_once_and_recovered_from_while_all_invariants_hold() -> None:
    played = Game(planned(*_SIX), seed=1).play()
    assert [(outcome.name, outcome.problems) for outcome in played.outcomes] == [(name, []) for name in _SIX]
    assert all(played.invariants().values())
    assert all(outcome.recovered_seconds for outcome in played.outcomes)
    assert played.passed


def test_a_row_that_disappears_from_raw_fails_the_game() -> None:
    played = Game(planned("late commit"), seed=1, patience=120, sabotage="row").play()
    assert any(problem.startswith("I1: game.events") for problem in played.outcomes[0].problems)


def test_an_alert_that_is_switched_off_fails_the_game() -> None:
    played = Game(planned("grant revoked"), seed=1, patience=120, sabotage="alert").play()
    assert any("no alert `load failed game.accounts`" in problem for problem in played.outcomes[0].problems)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_game_that_is_stopped_leaves_neither_processes_nor_files(tmp_path: Path, kind: signal.Signals) -> None:
    log = tmp_path / "log"
    # A shell without job control starts what runs in the background deaf to Ctrl-C, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with log.open("wb") as output:
        playing = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "gameday", "--faults", "1", "--only", "late commit"],
            env={**os.environ, **finds_checkout(), "TMPDIR": str(tmp_path), "MEDALLION_HOME": str(tmp_path / "home")},
            stdout=output,
            stderr=output,
        )
    signal.signal(signal.SIGINT, before)
    try:
        eventually(lambda: b"waiting for the first loads" in log.read_bytes(), 600, log.read_text)
        (home,) = tmp_path.glob("gameday-*")
        assert processes_of(home)
        playing.send_signal(kind)
        assert playing.wait(120) == 130
        assert processes_of(home) == []
        assert not home.exists()
    finally:
        if playing.poll() is None:  # it ends its world by SIGTERM, and by SIGKILL not
            playing.terminate()
            playing.wait(120)
