"""docs/metrics.md is rendered from the registry and lists all of it."""

from pathlib import Path

from flows.cli.metrics_page import PAGE, metrics_page, write
from flows.operations.metric_registry import METRICS
from flows.values.settings import PROJECT_ROOT


def test_the_page_in_the_repository_is_up_to_date() -> None:
    """If it is not: `medallion render`."""
    assert (PROJECT_ROOT / PAGE).read_text(encoding="utf-8") == metrics_page()


def test_every_metric_is_on_the_page_with_its_unit_and_question() -> None:
    lines = metrics_page().splitlines()
    for each in METRICS:
        [line] = [line for line in lines if line.startswith(f"| `{each.full_name}` |")]
        assert line.count("|") == 6
        assert f"| {each.unit} |" in line
        assert each.question in line
        assert each.question.endswith("?")


def test_a_page_that_was_edited_by_hand_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    assert write(root=tmp_path, check=True) == [tmp_path / PAGE]
    assert write(root=tmp_path) == [tmp_path / PAGE]
    assert write(root=tmp_path) == []
    (tmp_path / PAGE).write_text("edited")
    assert write(root=tmp_path, check=True) == [tmp_path / PAGE]
