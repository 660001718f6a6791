"""What dbt sees of the process it runs in."""

from pathlib import Path
from typing import Any

import pytest

from flows.models import environment
from flows.models.project import run_dbt
from tests.conftest import TestDatabase
from tests.flows.small_project import edit, write_project


@pytest.fixture
def reasons(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Why dbt parsed a whole project, each time it did."""
    from dbt.parser import manifest

    found: list[str] = []
    said = manifest.UnableToPartialParse

    def note(reason: str) -> Any:
        found.append(reason)
        return said(reason=reason)

    monkeypatch.setattr(manifest, "UnableToPartialParse", note)
    return found


def test_a_project_is_parsed_once_and_then_only_what_was_edited(
    warehouse: TestDatabase, tmp_path: Path, reasons: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, target = write_project(tmp_path), tmp_path / "target"

    def run(*arguments: str) -> None:
        done = run_dbt(arguments, url=warehouse.url("transformer"), target=target, prefix="dev_ada__", project=project)
        assert done.ok, done.problem

    run("list")
    assert len(reasons) == 1
    run("list")
    edit(project, "staging/stg_sale.sql", "1 as amount", "2 as amount")
    run("build", "--select", "stg_sale")
    assert len(reasons) == 1, reasons

    monkeypatch.setattr(environment, "_OF_MACROS", ())
    run("list")
    assert reasons[1:] == ["change detected to override macro. Starting full parse."]
