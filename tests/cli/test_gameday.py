"""`medallion gameday`: its exit code says whether the game day was passed, and its report is kept."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from flows.cli.gameday import gameday
from flows.values.settings import settings
from infra.gameday.faults import FAULTS, plan
from infra.gameday.game import Game
from infra.gameday.outcome import Outcome
from infra.gameday.report import Report


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home of the settings while a test lasts."""
    monkeypatch.setenv("MEDALLION_HOME", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    settings.cache_clear()


@pytest.fixture
def problems(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is wrong with the fault of each game: games are not played here."""
    found: list[str] = []

    def play(game: Game) -> Report:
        fault = game.planned[0].fault
        outcome = Outcome(fault.name, fault.what, fault.severity, "2026-01-01T00:00:00+00:00", 12.0, 30.0, 8.0)
        outcome.problems = found
        return Report("2026-01-01T00:00:00+00:00", game.seed, 60, [outcome])

    monkeypatch.setattr(Game, "play", play)
    return found


def command(*arguments: str) -> tuple[int, str]:
    app = typer.Typer(rich_markup_mode=None)
    app.command()(gameday)
    ended = CliRunner().invoke(app, [*arguments])
    return ended.exit_code, ended.output


def test_the_plan_of_a_seed_is_shown() -> None:
    code, output = command("--plan", "--seed", "7", "--faults", "3")
    assert code == 0
    assert all(each.fault.name in output for each in plan(3, 60, 7))


def test_a_fault_that_is_none_is_refused_with_those_that_are() -> None:
    code, output = command("--plan", "--only", "an earthquake")
    assert code == 2
    assert "late commit" in output


def test_a_game_that_is_passed_is_kept_with_its_seed(problems: list[str], tmp_path: Path) -> None:
    page = tmp_path / "kept/autumn.md"
    assert command("--faults", "1", "--seed", "7", "--report", str(page))[0] == 0
    assert "**Passed**" in page.read_text()
    assert json.loads(page.with_suffix(".json").read_text())["seed"] == 7


def test_a_game_that_is_not_passed_says_why_and_fails(home: Path, problems: list[str]) -> None:
    problems.append("no alert `load failed game.*`")
    code, output = command("--faults", "1", "--seed", "7", "--only", FAULTS[0].name)
    assert code == 1
    assert FAULTS[0].name in output
    assert [path.suffix for path in sorted((home / "gamedays").iterdir())] == [".json", ".md"]
