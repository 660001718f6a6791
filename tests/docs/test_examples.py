"""What people copy out of the documents works."""

import ast
import re
from importlib import import_module
from typing import Any

import psycopg
import pytest
import yaml

from flows.kinds.api import Api, Endpoint
from flows.kinds.postgres import Database, Table
from flows.kinds.registry import KINDS
from flows.sources import SOURCES
from tests.conftest import TestDatabase
from tests.docs.markdown import Block, blocks

# Those that name a file are written there by tests/kinds/conformance/test_adding_a_kind.py.
PYTHON = [
    block
    for block in blocks("python")
    if not block.code.startswith("# flows/") and not block.code.startswith("# tests/")
]
# The rest speaks of tables that exist only after a run; those of runbooks are run by tests/docs/runbooks.
QUERIES = [
    statement.strip()
    for block in blocks("sql")
    if not block.document.startswith("docs/runbooks/")
    for statement in block.code.split(";\n")
    if re.search(r"\b(?:ops\.|quarantine\.rows|pg_)", statement)
    and not re.search(r"\{\{|\b(?:raw_\w+|landing|staging|silver\w*|gold)\.\w", statement)
]


def _label(block: Block) -> str:
    return f"{block.document}: {block.code.strip().splitlines()[0][:40]}"


def _run(code: str) -> list[Any]:
    """The values of a block's statements, run with the declarations' names at hand, as in flows/sources."""
    packages = [import_module(name) for name in ("flows.declare", *(f"flows.kinds.{kind}" for kind in reversed(KINDS)))]
    names: dict[str, Any] = {name: getattr(package, name) for package in packages for name in package.__all__}
    values = []
    for statement in ast.parse(code).body:
        if isinstance(statement, ast.Expr):
            values.append(eval(ast.unparse(statement), names))  # noqa: S307  # our own documents
        else:
            exec(ast.unparse(statement), names)  # noqa: S102
            if isinstance(statement, ast.Assign):
                values += [names[target.id] for target in statement.targets if isinstance(target, ast.Name)]
    return values


@pytest.mark.parametrize("block", PYTHON, ids=_label)
def test_every_declaration_in_the_documents_is_accepted(block: Block) -> None:
    assert _run(block.code)


def test_the_readme_shows_a_table_and_an_endpoint_and_the_guide_both_kinds_of_source() -> None:
    shown = {(block.document, type(value)) for block in PYTHON for value in _run(block.code)}
    assert {("README.md", Table), ("README.md", Endpoint)} <= shown
    assert {("docs/declaring-sources.md", Database), ("docs/declaring-sources.md", Api)} <= shown


def test_the_readme_shows_tables_and_endpoints_as_they_are_declared() -> None:
    """An example of a table that does not exist would make `medallion plan` of it fail."""
    declared = {(type(table), table.name): table for source in SOURCES for table in source.tables}
    shown = [value for block in PYTHON if block.document == "README.md" for value in _run(block.code)]
    assert [value for value in shown if declared.get((type(value), value.name)) != value] == []


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.splitlines()[-1][:50])
def test_every_query_on_operations_runs(query: str, warehouse: TestDatabase) -> None:
    with psycopg.connect(warehouse.url("loader")) as connection:
        connection.execute(query.encode())
        connection.rollback()


def test_queries_are_found_at_all() -> None:
    assert len(QUERIES) >= 10


def test_the_example_of_a_model_describes_every_column_it_selects() -> None:
    (model,) = [block for block in blocks("sql") if block.document == "README.md"]
    (twin,) = [block for block in blocks("yaml") if block.document == "README.md"]
    described = [column["name"] for column in yaml.safe_load(twin.code)["models"][0]["columns"]]
    select = model.code.rsplit("select", 1)[1].split("from", 1)[0]
    assert [line.split()[-1] for line in select.strip().split(",\n")] == described
