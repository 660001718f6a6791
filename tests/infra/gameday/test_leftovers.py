"""Worlds whose game was killed are ended and removed by the next one; those of a game that lives are left alone."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from infra.gameday.leftovers import made_folder, remove_leftovers
from infra.gameday.program import processes_of


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_the_world_of_a_killed_game_is_removed_with_its_processes() -> None:
    home = made_folder()
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    (home / "owner").write_text(f"{int(dead.stdout)}\n12345\n")
    sleeping = subprocess.Popen(["sleep", "600"], env={**os.environ, "MEDALLION_HOME": str(home)})
    assert remove_leftovers() == [home]
    assert sleeping.wait(10) != 0
    assert not home.exists()


def test_the_world_of_a_game_that_lives_is_left_alone_and_so_are_folders_that_are_none(tmp_path: Path) -> None:
    home = made_folder()
    (tmp_path / "gameday-photos").mkdir()
    with subprocess.Popen(["sleep", "600"], env={**os.environ, "MEDALLION_HOME": str(home)}) as sleeping:
        assert remove_leftovers() == []
        assert [pid for pid, _ in processes_of(home)] == [sleeping.pid]
        sleeping.kill()
    assert {path.name for path in tmp_path.glob("gameday-*")} == {home.name, "gameday-photos"}
