"""The command line and the settings are documented, all of them, and nothing is documented that is not there."""

import re
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

from flows.cli.app import app
from flows.failures.diagnose import STRATEGIES
from flows.values import errors
from flows.values.errors import MedallionError
from flows.values.settings import Settings
from tests.docs.markdown import DOCUMENTS, ROOT, name_of, rows_of, text_of

README = ROOT / "README.md"
OPERATIONS = ROOT / "docs/operations.md"
# The command line as typer builds it; its type differs between typer's versions.
_GROUP = get_command(app)
COMMANDS = getattr(_GROUP, "commands")  # noqa: B009
_CODE_FOLDERS = ("flows", "blocks", "deployments", "infra", "demo", "dbt_project")
_VARIABLE = re.compile(r"\bMEDALLION_[A-Z][A-Z_]*[A-Z]\b")


#: Names of an earlier release, which still work and which no help shows.
ALIASES = {"retain": "purge", "review": "diff"}


def test_an_earlier_name_is_a_hidden_alias() -> None:
    for earlier, name in ALIASES.items():
        assert COMMANDS[earlier].hidden
        assert COMMANDS[earlier].help == COMMANDS[name].help


def test_the_readme_lists_the_eight_everyday_commands() -> None:
    listed = re.findall(r"^\| `medallion ([a-z]+)", text_of(README), re.MULTILINE)
    assert len(listed) == 8
    assert set(listed) <= COMMANDS.keys() - ALIASES.keys()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_no_document_speaks_of_a_command_that_is_not_there(document: Path) -> None:
    named = set(re.findall(r"(?:`|^\s*|run )medallion ([a-z]+)", text_of(document), re.MULTILINE))
    assert named - set(COMMANDS) == set()


def test_make_verbs_named_in_documents_exist() -> None:
    verbs = set(re.findall(r"^([a-z]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    named = {verb for document in DOCUMENTS for verb in re.findall(r"(?:`|^)make ([a-z]+)", text_of(document), re.M)}
    assert {"demo", "test"} <= named <= verbs


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_variable_named_in_a_document_is_read_somewhere(document: Path) -> None:
    settings = {f"MEDALLION_{name.upper()}" for name in Settings.model_fields}
    of_sources = {
        name
        for name in _VARIABLE.findall(text_of(document))
        if re.fullmatch(r"MEDALLION_SOURCE_[A-Z]+_(URL|KEY)|MEDALLION_ALERT_CHANNEL_[A-Z_]+", name)
    }
    named = set(_VARIABLE.findall(text_of(document))) - of_sources - {"MEDALLION_SOURCE"}
    assert named - settings - _variables_in_code() == set()


@cache
def _variables_in_code() -> set[str]:
    return {
        name
        for folder in _CODE_FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".sql", ".yml"} and "target" not in path.parts
        for name in _VARIABLE.findall(text_of(path))
    }


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_documented_with_its_default(name: str) -> None:
    documented = {row[0]: row[1] for row in rows_of(OPERATIONS) if len(row) == 3}
    variable = f"`MEDALLION_{name.upper()}`"
    assert variable in documented
    default = Settings.model_fields[name].default
    if isinstance(default, int | float):
        assert documented[variable] == f"{default:g}"


def test_the_table_of_classes_says_what_is_done() -> None:
    documented = {row[0]: row for row in rows_of(OPERATIONS) if len(row) == 5}
    for failure_class, (strategy, severity) in STRATEGIES.items():
        row = documented[failure_class.value]
        assert (row[2], row[3]) == (strategy.value, severity)


def test_every_exit_code_of_an_error_is_documented() -> None:
    raised = {
        kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MedallionError)
    }
    assert {str(code) for code in raised} <= {row[0] for row in rows_of(README)}
