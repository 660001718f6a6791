"""docs/commands.md is rendered from the command line and lists all of it."""

from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from flows.cli.app import app
from flows.cli.reference import PAGE, command_reference, write
from flows.values.settings import PROJECT_ROOT

GROUP: Any = get_command(app)


def _leaves(group: Any, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found |= _leaves(command, f"{path} {name}")
        elif not command.hidden:
            found[f"{path} {name}"] = command
    return found


LEAVES = _leaves(GROUP, "medallion")


def test_the_page_in_the_repository_is_up_to_date() -> None:
    """If it is not: `medallion render`."""
    assert (PROJECT_ROOT / PAGE).read_text(encoding="utf-8") == command_reference(GROUP)


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_every_option_of_a_command_is_in_its_section(name: str) -> None:
    section = command_reference(GROUP).split(f"## {name}\n", 1)[1].split("\n## ", 1)[0]
    options = [option for parameter in LEAVES[name].params for option in parameter.opts if option.startswith("-")]
    assert [option for option in options if f"`{option}`" not in section and option not in {"--help", "-h"}] == []


def test_hidden_aliases_are_not_listed() -> None:
    page = command_reference(GROUP)
    assert "medallion review" not in page
    assert "medallion retain" not in page


def test_a_page_that_differs_is_reported_and_then_written(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    path = tmp_path / PAGE
    assert write(GROUP, check=True, root=tmp_path) == [path]
    assert not path.exists()
    assert write(GROUP, root=tmp_path) == [path]
    assert write(GROUP, root=tmp_path) == []
