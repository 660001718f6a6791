"""What other accounts of the machine can read of a home: nothing, whatever the umask is and however open it was."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from flows.cli.terminal import prepare
from flows.values.settings import settings
from infra.local.home import Home, write_private
from infra.local.stack import down, status, up
from tests.infra.conftest import LITTLE, open_to_others

#: An account that owns nothing.
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another account")


def readable_to_another(home: Home) -> list[str]:
    """What a second account can read of the home: it tries each file and folder."""
    found = subprocess.run(
        ["find", str(home.root), "-readable"], user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    return found.stdout.splitlines()


def let_everybody_in(home: Home) -> None:
    """As earlier versions left it: folders 0755, files 0644."""
    for path in (home.root, *home.root.rglob("*")):
        if path.lstat().st_uid == os.geteuid() and not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)


@needs_root
def test_a_second_account_reads_nothing_and_up_closes_a_home_that_was_open(home: Home, light_prefect: None) -> None:
    os.umask(0)
    up(home=home, min_free_bytes=LITTLE)
    for folder in ("dbt/compiled", "prefect/storage"):
        (home.root / folder).mkdir(parents=True)
        (home.root / folder / "secret").write_text("password")
    let_everybody_in(home)
    # The control: this account does read what is left open.
    opened = readable_to_another(home)
    assert {str(home.credentials_file), str(home.stack_file)} <= set(opened)
    assert str(home.root / "dbt/compiled/secret") in opened

    again = up(home=home, min_free_bytes=LITTLE)
    assert readable_to_another(home) == []
    assert open_to_others(home) == []

    # PostgreSQL runs as an account of its own: it still gets in, and so does the next one that is started.
    assert status(home=home)[0].state == "running"
    with psycopg.connect(again.urls["warehouse_admin"]) as connection:
        connection.execute("create table ops.written (id int)")
    down(home=home)
    last = up(home=home, min_free_bytes=LITTLE)
    with psycopg.connect(last.urls["warehouse_admin"]) as connection:
        assert connection.execute("select count(*) from ops.written").fetchone() == (0,)
    assert readable_to_another(home) == []


@needs_root
def test_the_group_gets_no_passage_by_the_access_list(home: Home) -> None:
    """The mode's group bits are the list's mask then: closing them by mode alone would let the owner's group pass."""
    home.root.mkdir(mode=0o755)
    home.prepare(min_free_bytes=0)
    from infra.local import private

    home.root.chmod(0o750)
    private.let_traverse(home.root, NOBODY)
    home.prepare(min_free_bytes=0)
    entry = home.root / "written"
    entry.write_text("x")
    tried = ["test", "-e", str(entry)]
    assert subprocess.run(tried, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", check=False).returncode == 0
    # Another account, with the group of the home's owner.
    assert subprocess.run(tried, user=NOBODY - 1, group=0, extra_groups=[], cwd="/", check=False).returncode == 1


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_whatever_the_umask_is_what_is_made_is_the_owners_alone(home: Home, umask: int) -> None:
    os.umask(umask)
    home.prepare(min_free_bytes=0)
    with home.lock():
        write_private(home.stack_file, {})
    assert open_to_others(home) == []
    assert {path.stat().st_mode & 0o777 for path in home.root.iterdir() if path.is_file()} == {0o600}


def test_what_commands_write_after_they_are_prepared_is_the_owners_alone(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, new_home: Callable[[], Home]
) -> None:
    """dbt's compiled SQL, results, spools: written by libraries that take the umask as it is."""
    monkeypatch.setenv("MEDALLION_HOME", str(home.root))
    settings.cache_clear()
    os.umask(0)
    (tmp_path / "before").mkdir()
    assert (tmp_path / "before").stat().st_mode & 0o777 == 0o777  # the control
    try:
        prepare(asks_server=False)
    finally:
        settings.cache_clear()
    child = "import pathlib; pathlib.Path('dbt').mkdir(); pathlib.Path('dbt/compiled.sql').write_text('x')"
    subprocess.run(["python3", "-c", child], cwd=tmp_path, check=True)
    assert (tmp_path / "dbt").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "dbt/compiled.sql").stat().st_mode & 0o777 == 0o600
