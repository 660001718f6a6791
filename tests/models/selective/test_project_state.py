"""Whether dbt has to parse the project again: only if a file has changed from which nodes are read."""

from pathlib import Path

import pytest

from flows.models.selective.project_state import state_of

_URL = "postgresql://builder:secret@127.0.0.1:5432/warehouse"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("dbt_project.yml", "models/a.sql", "seeds/b.csv", "dbt_packages/other/macros/c.sql"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("-- once\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", ["dbt_project.yml", "models/a.sql", "seeds/b.csv", "dbt_packages/other/macros/c.sql"])
def test_an_edited_file_has_the_project_parsed_again(project: Path, name: str) -> None:
    before = state_of(project, _URL)
    (project / name).write_text("-- twice\n", encoding="utf-8")
    assert state_of(project, _URL) != before


def test_what_dbt_wrote_and_a_new_password_change_nothing(project: Path) -> None:
    before = state_of(project, _URL)
    (project / "target").mkdir()
    (project / "target" / "compiled.sql").write_text("select 1", encoding="utf-8")
    assert state_of(project, _URL.replace("secret", "other")) == before
