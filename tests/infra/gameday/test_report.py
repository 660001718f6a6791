"""The report of a game day: a page for people, and the same for programs."""

import json
from pathlib import Path

import pytest

from infra.gameday.outcome import Outcome
from infra.gameday.report import Report


def report(*problems: str) -> Report:
    good = Outcome("late commit", "…", None, "2026-01-01T00:00:00+00:00", recovered_seconds=8.4)
    other = Outcome("worker killed", "…", "critical", "2026-01-01T00:03:00+00:00", 41.2, 60.0, 25.0)
    other.alerts = {"no worker work pool local": "critical"}
    other.problems = [*problems]
    other.detected_rounds = 18
    return Report("2026-01-01T00:00:00+00:00", 7, 600, [good, other], commits=900, loads=80, looks=2_000)


def test_time_to_detect_and_to_recover_stand_beside_each_fault(tmp_path: Path) -> None:
    page = tmp_path / "kept" / "gameday.md"
    facts = json.loads(report().save(page).read_text())
    assert "| worker killed | critical | 41 s | 18 | 25 s | no worker work pool local | passed |" in page.read_text()
    assert "| late commit | - | - | - | 8 s | - | passed |" in page.read_text()
    assert [(each["name"], each["detected_seconds"], each["recovered_seconds"]) for each in facts["faults"]] == [
        ("late commit", None, 8.4),
        ("worker killed", 41.2, 25.0),
    ]
    assert facts["passed"]
    assert set(facts["invariants"].values()) == {True}


@pytest.mark.parametrize(
    ("problem", "invariant"), [("I1: game.events: 1 rows are in raw only", "I1"), ("I6: prices of two versions", "I6")]
)
def test_a_game_with_a_problem_is_not_passed_and_names_the_invariant(problem: str, invariant: str) -> None:
    played = report(problem)
    assert not played.passed
    assert [name for name, held in played.invariants().items() if not held] == [invariant]
    assert problem in played.as_markdown()
    assert "**Failed**" in played.as_markdown()


def test_a_game_without_faults_has_proven_nothing() -> None:
    assert not Report("2026-01-01T00:00:00+00:00", 7, 0, []).passed
