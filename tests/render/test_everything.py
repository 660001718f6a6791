"""Rendered files as files: written, checked, kept."""

from pathlib import Path

import pytest

from flows.declare.source import Source
from flows.render import check, render_all, write
from flows.values.errors import ConfigurationError
from flows.values.settings import PROJECT_ROOT


def test_this_projects_files_say_what_its_declarations_say() -> None:
    """When this fails: `medallion render`, and commit what changed."""
    assert [path.relative_to(PROJECT_ROOT).as_posix() for path in check()] == []


def test_rendering_changes_nothing_the_second_time(sources: tuple[Source, ...], root: Path) -> None:
    first = write(sources, root)
    assert [path.relative_to(root).as_posix() for path in first] == [
        "dbt_project/models/staging/crm/_sources.yml",
        "dbt_project/models/staging/stock/_sources.yml",
        "dbt_project/models/staging/weather/_sources.yml",
        "docs/shape.md",
        "prefect.yaml",
        "soda/raw/crm/contacts.yml",
        "soda/raw/crm/orders.yml",
        "soda/raw/crm/stages.yml",
        "soda/raw/stock/counts.yml",
        "soda/raw/stock/levels.yml",
        "soda/raw/stock/moves.yml",
        "soda/raw/stock/sites.yml",
        "soda/raw/weather/readings.yml",
        "soda/raw/weather/stations.yml",
    ]
    assert write(sources, root) == {}
    assert check(sources, root) == []


def test_checking_and_rendering_touch_no_file(sources: tuple[Source, ...], root: Path) -> None:
    render_all(sources, root)
    check(sources, root)
    assert [path.name for path in root.iterdir()] == ["prefect.yaml"]


def test_an_edited_a_missing_and_a_left_over_file_are_all_named(sources: tuple[Source, ...], root: Path) -> None:
    write(sources, root)
    page, moves = root / "docs/shape.md", root / "soda/raw/stock/moves.yml"
    page.write_text(page.read_text() + "by hand")
    moves.unlink()
    left = root / "soda/raw/stock/renamed_away.yml"
    left.write_text("dataset: x")
    old = root / "dbt_project/models/staging/gone/_sources.yml"
    old.parent.mkdir()
    old.write_text("sources: []")
    assert check(sources, root) == sorted([page, moves, left, old])
    assert write(sources, root) == {page: "written", moves: "written", left: "deleted", old: "deleted"}
    assert check(sources, root) == []
    assert not left.exists()
    assert not old.exists()


def test_files_that_are_not_ours_are_left_alone(sources: tuple[Source, ...], root: Path) -> None:
    write(sources, root)
    mine = [root / "dbt_project/models/staging/stock/stg_stock__sites.yml", root / "soda/gold_checks/readme.md"]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("by hand")
    assert write(sources, root) == {}
    assert all(path.read_text() == "by hand" for path in mine)


def test_what_people_wrote_in_prefect_yaml_stays(sources: tuple[Source, ...], root: Path) -> None:
    before = (root / "prefect.yaml").read_text()
    write(sources, root)
    after = (root / "prefect.yaml").read_text()
    assert after.startswith(before.split("\n  # end")[0])
    assert "\n\n  - name: mine\n    # rendered by" in after
    assert after.endswith("\n    tags: [mine]\n")
    write((sources[1],), root)
    assert "ingest-stock" not in (root / "prefect.yaml").read_text()


@pytest.mark.parametrize("text", ["", "deployments: []\n"])
def test_a_prefect_yaml_without_the_marks_is_refused_with_the_lines_to_add(
    text: str, sources: tuple[Source, ...], root: Path
) -> None:
    (root / "prefect.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match="put these two lines"):
        render_all(sources, root)


def test_marks_that_stand_twice_are_refused(sources: tuple[Source, ...], root: Path) -> None:
    (root / "prefect.yaml").write_text((root / "prefect.yaml").read_text() * 2)
    with pytest.raises(ConfigurationError, match="duplicated"):
        render_all(sources, root)


def test_a_folder_that_is_no_project_is_refused(sources: tuple[Source, ...], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"prefect\.yaml does not exist"):
        check(sources, tmp_path / "elsewhere")
