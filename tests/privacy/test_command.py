"""`medallion erase` tells what it found, and ends with a code that a script can trust."""

import json
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from flows.cli import restore
from flows.cli.app import app
from flows.cli.erase_places import PREFECT, elsewhere
from flows.values.settings import settings
from tests.conftest import TestDatabase, copy_of
from tests.kinds.loading import rows
from tests.privacy.one_household import KEY, WORDS, reached


@pytest.fixture
def home(held: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDALLION_HOME", str(tmp_path))
    monkeypatch.setattr("flows.cli.erase.prepare", lambda **_: None)
    settings.cache_clear()
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["erase", *arguments], env={"COLUMNS": "160"})


def test_an_erasure_is_planned_done_and_told(held: TestDatabase, home: Path) -> None:
    planned = run("--subject", "household", "--key", KEY)
    assert planned.exit_code == 0
    assert "nothing was deleted" in planned.output
    done = run("--subject", "household", "--key", f" {KEY}", "--erase", "--despite-source")
    assert done.exit_code == 0, done.output
    assert "nothing is left" in done.output
    assert "Rows of others with a value of this one" in done.output
    assert "Prefect's database was not searched" in done.output
    assert not any(word in planned.output + done.output for word in WORDS)


def test_what_is_left_is_listed_and_the_code_is_one(held: TestDatabase, home: Path) -> None:
    with psycopg.connect(held.url("loader"), autocommit=True) as loader:
        loader.execute("create table raw_marketing.visits (payload jsonb)")
        loader.execute("insert into raw_marketing.visits values (%s)", [json.dumps({"guest": {"householdId": 5}})])
    (home / "note").write_text(WORDS[1])
    done = run("--subject", "household", "--key", KEY, "--erase", "--despite-source")
    assert done.exit_code == 1
    for told in ("raw_marketing.visits", "guest.householdId", "file note"):
        assert told in done.output
    assert "nothing is left" not in done.output
    drafted = run("--subject", "household", "--paths")
    assert drafted.exit_code == 0


def test_paths_are_drafted_as_a_declaration(held: TestDatabase, home: Path) -> None:
    with psycopg.connect(held.url("loader"), autocommit=True) as loader:
        loader.execute("create table raw_marketing.visits (payload jsonb)")
        loader.execute("insert into raw_marketing.visits values (%s)", [json.dumps({"guest": {"householdId": 6}})])
    assert 'KeyPath("marketing.visits", "guest.householdId"),' in run("--subject", "household", "--paths").output


def test_the_end_of_a_restore_erases_again(
    held: TestDatabase,
    shop: TestDatabase,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "erased again: 0" in run("--again").output
    with copy_of(held) as restored:
        run("--subject", "household", "--key", KEY, "--erase", "--despite-source")
        with reached(restored, shop, monkeypatch):
            restore._erase_again()
        assert "erased 1 people again" in capsys.readouterr().out
        assert rows(restored, "select from raw_shop.households where household_id = 5") == []
        assert "erased again: 0" in run("--again").output
    assert run().exit_code == 2


def test_prefects_database_is_searched_if_its_url_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "postgresql+asyncpg://u:p@127.0.0.1:5432/prefect")
    assert elsewhere().databases[PREFECT].url == "postgresql://u:p@127.0.0.1:5432/prefect"
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "sqlite+aiosqlite:///x.db")
    assert elsewhere().databases == {}
