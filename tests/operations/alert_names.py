"""The names of alerts, as SQL and code give them."""

import ast
import re
from collections.abc import Iterator
from functools import cache

from flows.operations.channels import UNDELIVERED
from flows.operations.checks import freshness
from tests.conftest import ROOT


@cache
def names() -> tuple[str, ...]:
    """The names of all alerts, in SQL and in code. Found once: a page per alert asks for them, each 50 ms of a core."""
    return tuple(_found())


def _found() -> Iterator[str]:
    yield from re.findall(r"alert\.name := '([^']+)'(?! \|\|)", (ROOT / "flows/state/schema.sql").read_text())
    yield from ("load failed", "load refused", "run failed", "run refused", "check failed", "check warns")
    yield from (*freshness.ALERTS.values(), UNDELIVERED)
    for path in sorted((ROOT / "flows").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            target.id: node.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Condition":
                name = node.args[0]
                if isinstance(name, ast.Constant):
                    yield str(name.value)
                elif isinstance(name, ast.Name) and name.id in constants:
                    yield str(constants[name.id])
