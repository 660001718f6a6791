"""Each alert and each class of errors has a runbook, each is exercised, and no command of a page is unknown."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from flows.cli.app import app
from flows.operations.checks.names import WATCH_ALERTS
from flows.operations.messages import runbook_of
from flows.values.errors import FailureClass
from tests.docs.markdown import ROOT, anchors_of, text_of
from tests.docs.runbooks.night import exercise
from tests.docs.runbooks.pages import FOLDER, Page, pages, slug
from tests.operations.alert_names import names

PAGES = {page.name: page for page in pages()}
CLASSES = {each.value for each in FailureClass}
ALERTS = {*names(), *WATCH_ALERTS}
#: Made once: that takes 0.1 s of a core.
COMMAND = get_command(app)
MODULES = ("test_data", "test_loads", "test_runs", "test_watch")


def test_every_alert_and_every_class_has_a_page_and_every_page_one_of_them() -> None:
    assert {*ALERTS, *CLASSES} == {*PAGES}
    assert len(ALERTS) > 40


def test_every_name_that_a_check_of_the_watch_gives_is_one_of_them() -> None:
    files = [*(ROOT / "flows/operations/checks").glob("*.py"), ROOT / "infra/backup/overdue.py"]
    given = {name for file in files for name in re.findall(r"Condition\(\s*\"([^\"]+)\",", text_of(file))}
    assert len(given) > 10
    assert given <= WATCH_ALERTS


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_the_alert_links_to_its_page(name: str) -> None:
    assert runbook_of(name) == f"docs/runbooks/{slug(name)}.md"
    assert (ROOT / runbook_of(name)).is_file()


def test_every_page_is_exercised() -> None:
    """A page that nobody has followed is a guess."""
    for module in MODULES:
        import_module(f"tests.docs.runbooks.{module}")
    files = {path.stem for path in Path(__file__).parent.glob("test_*.py")}
    assert files - {*MODULES} == {"test_pages"}
    assert {*PAGES} - {*exercise.of} == set(), "write a test that causes it and follows its page"
    assert {*exercise.of} - {*PAGES} == set()


def test_the_index_lists_every_page() -> None:
    listed = re.findall(r"^\| \[([^\]]+)\]\(([\w-]+)\.md\) \|", text_of(FOLDER / "README.md"), re.MULTILINE)
    assert {name: f"{slug(name)}" for name in PAGES} == dict(listed)


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_says_how_severe_it_is_what_to_do_and_when_it_is_over(name: str) -> None:
    page = PAGES[name]
    assert page.intro.startswith("**Severity:** ")
    assert page.steps
    assert page.end.endswith(".")
    assert len(text_of(FOLDER / f"{slug(name)}.md").splitlines()) < 60, "nobody reads more at night"


@pytest.mark.parametrize("name", sorted(PAGES))
def test_every_command_of_a_page_exists(name: str) -> None:
    for line in PAGES[name].commands:
        program, *arguments = shlex.split(line)
        if program == "medallion":
            refused = unknown(COMMAND, arguments)
            assert refused is None, f"{line}: {refused}"
        else:
            assert tuple(arguments[:2]) in PREFECT, f"{line}: add it after a look at `prefect {arguments[0]} --help`"


#: Commands of Prefect that pages use; a test below looks at its own list.
PREFECT = {
    ("deployment", "run"), ("flow-run", "cancel"), ("flow-run", "inspect"), ("flow-run", "logs"), ("flow-run", "ls"),
    ("work-pool", "inspect"), ("work-pool", "resume"),
}  # fmt: skip


def unknown(command: Any, arguments: list[str]) -> str | None:
    """The word that a command does not know; None if it knows all of them."""
    for position, word in enumerate(arguments):
        known = getattr(command, "commands", {})
        if word in known:
            command = known[word]
            continue
        if known and not word.startswith("-"):
            return word if not command.params or not command.invoke_without_command else None
        options = {each for parameter in command.params for each in parameter.opts}
        if word.startswith("-") and word not in options:
            return word
        takes = any(parameter.param_type_name == "argument" for parameter in command.params)
        after_option = position > 0 and arguments[position - 1].startswith("-")
        if not word.startswith("-") and not takes and not after_option:
            return word
    return None


@pytest.mark.parametrize(
    ("line", "word"),
    [("alerts shwo 1", "shwo"), ("run shop --ingest", "--ingest"), ("nothing", "nothing"), ("status shop", "shop"),
     ("alerts show 1", None), ("backup list", None), ("recover shop --yes --reason x", None)],
)  # fmt: skip
def test_a_command_that_does_not_exist_is_noticed(line: str, word: str | None) -> None:
    """The control."""
    assert unknown(COMMAND, line.split()) == word


@pytest.mark.long
def test_prefect_has_the_commands_that_pages_use() -> None:
    import subprocess
    import sys

    for group, command in sorted(PREFECT):
        program = Path(sys.executable).with_name("prefect")
        done = subprocess.run([program, group, command, "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"prefect {group} {command}: {done.stderr}"


def test_a_word_in_capitals_without_a_value_is_refused() -> None:
    page = Page("x", "", (), "")
    assert [*page.commands] == []
    block = PAGES["load failed"].steps[0].blocks[0]
    assert block.filled({"ID": "7"}).strip() == "medallion alerts show 7"
    with pytest.raises(KeyError):
        block.filled({})


def test_links_of_rules_lead_to_pages() -> None:
    rules = "".join(path.read_text() for path in (ROOT / "deployments/monitoring/prometheus").glob("*.yml"))
    links = re.findall(r"runbook: (\S+)", rules)
    assert len(links) > 10
    for link in links:
        path, _, anchor = link.partition("#")
        assert (ROOT / path).is_file(), link
        assert not anchor or anchor in anchors_of(ROOT / path), link
