"""The fingerprint of the project: every file that decides what is built, wherever it is."""

from pathlib import Path

import pytest

from flows.models.fingerprint import fingerprint


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "dbt_project"
    folder.mkdir()
    (folder / "dbt_project.yml").write_text("name: medallion\nmodel-paths: [models]\n")
    return folder


def written(project: Path, name: str, text: str) -> str:
    """The fingerprint once the file has this text."""
    file = project / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return fingerprint(project)


@pytest.mark.parametrize(
    "name",
    [
        "models/gold/mart.sql",
        # An edit of such a model reached readers past the release, since its folder's name is that of dbt's output.
        "models/logs/web_log.sql",
        "models/gold/target/sales_target.sql",
        "models/dbt_packages/mart.sql",
        "macros/target/schema.sql",
        "seeds/logs/codes.csv",
        "dbt_packages/vendor/macros/generate_schema_name.sql",
    ],
)
def test_an_edit_of_any_file_that_is_built_is_another_fingerprint(project: Path, name: str) -> None:
    before = fingerprint(project)
    added = written(project, name, "select 1 as id")
    assert len({before, added, written(project, name, "select 2 as id")}) == 3


@pytest.mark.parametrize("name", ["target/compiled/mart.sql", "logs/seen.csv", "target/run/m/models/mart.sql"])
def test_what_dbt_writes_in_the_project_is_no_part_of_it(project: Path, name: str) -> None:
    before = fingerprint(project)
    assert written(project, name, "select 1 as id") == before


@pytest.mark.parametrize("paths", ["[models, logs/models]", "[./logs]", "[models, .]"])
def test_models_in_a_folder_that_the_project_declares_are_part_of_it_whatever_its_name(
    project: Path, paths: str
) -> None:
    (project / "dbt_project.yml").write_text(f"name: medallion\nmodel-paths: {paths}\n")
    before = fingerprint(project)
    assert written(project, "logs/models/mart.sql", "select 1 as id") != before
