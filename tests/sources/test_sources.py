"""The declared sources are data: anyone can read them, and importing them does nothing."""

import ast
import importlib
from pathlib import Path

import pytest

from flows import sources
from flows.kinds.api import Api
from flows.kinds.dlt import DltSource
from flows.kinds.postgres import Database
from flows.kinds.registry import KINDS
from flows.render.dbt_sources import dbt_sources
from flows.sources import SOURCES

#: Declarations about what is held, whatever source it came from.
OTHER_FILES = {"__init__", "alerting", "approvals", "calendars", "profiling", "retention", "subjects"}
FILES = sorted(Path(sources.__file__).parent.rglob("*.py"))

# Literals, names and calls of the nouns of flows.declare. Everything else is code.
ALLOWED = (
    ast.Module,
    ast.Import,
    ast.ImportFrom,
    ast.alias,
    ast.Assign,
    ast.AnnAssign,
    ast.Expr,
    ast.Constant,
    ast.Name,
    ast.Call,
    ast.keyword,
    ast.Dict,
    ast.List,
    ast.Tuple,
    ast.UnaryOp,
    ast.USub,
    ast.expr_context,
)


def code_in(text: str) -> list[str]:
    """Kinds of syntax in a text that are not plain declaration."""
    return [type(node).__name__ for node in ast.walk(ast.parse(text)) if not isinstance(node, ALLOWED)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_source_is_written_in_literals_only(file: Path) -> None:
    """Whoever adds a table should need no Python, and a source cannot depend on the time of its import."""
    assert code_in(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_source_calls_nothing_but_the_words_of_declarations(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    packages = ["flows.declare", *(f"flows.kinds.{kind}" for kind in KINDS)]
    words = {word for package in packages for word in importlib.import_module(package).__all__}
    assert [ast.unparse(call) for call in calls if ast.unparse(call) not in words] == []
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in imported if name and not name.startswith("flows.sources")} <= set(packages)


@pytest.mark.parametrize(
    "code",
    ["def f(): pass", "f = lambda: 1", "x = [i for i in y]", "for i in y: pass", "x = 1 if y else 2", "x = f'{y}'"],
)
def test_code_in_a_source_would_be_noticed(code: str) -> None:
    assert code_in(code) != []


def test_every_file_declares_a_source_that_is_listed() -> None:
    listed = {source.name for source in SOURCES}
    for file in FILES:
        if file.stem not in OTHER_FILES and file.parent.name != "catalog":
            module = importlib.import_module(f"flows.sources.{file.stem}")
            declared = {value.name for value in vars(module).values() if isinstance(value, Database | Api | DltSource)}
            assert declared, f"{file.name} declares no source"
            assert declared <= listed, f"{file.name} is missing from flows/sources/__init__.py"


def test_no_two_sources_share_a_name() -> None:
    """The name is the raw schema, the lock and the row in the ledger."""
    names = [source.name for source in SOURCES]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize(
    "name", sorted(file.stem for file in FILES if file.parent.name == "catalog" and file.stem != "__init__")
)
def test_a_source_of_the_catalog_is_ready_to_be_listed_and_is_not(name: str) -> None:
    """It is rendered like any other once it stands in SOURCES; until then nothing reads it."""
    api = getattr(importlib.import_module(f"flows.sources.catalog.{name}"), name)
    assert isinstance(api, Api)
    assert api.name == name
    assert name not in {source.name for source in SOURCES}
    assert all(endpoint.description.startswith("One record per ") for endpoint in api.endpoints)
    text = dbt_sources(api)
    assert all(f"name: {endpoint.name}" in text for endpoint in api.endpoints)
