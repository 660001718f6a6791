"""The house stands as drawn: arrows, names, docstrings, and lists that must not drift from what they list."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flows.failures.failpoints import EXCHANGE_FAILPOINTS, FAILPOINTS, pass_failpoint

ROOT = Path(__file__).parents[1]
PACKAGES = ("flows", "blocks", "deployments", "infra", "demo")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
SHAPELESS = {"utils", "util", "helpers", "helper", "common", "manager", "handler", "misc"}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_arrows_point_downwards() -> None:
    """Rooms never import each other, nor Prefect: otherwise none of them could be tested or replaced alone."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [path for path in MODULES if path.read_text(encoding="utf-8").strip()], ids=named)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.relative_to(ROOT).parts[0] in ("flows", "blocks")], ids=named
)
def test_everything_public_says_what_it_does(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


def test_nothing_is_named_after_having_no_name() -> None:
    files = [path for package in (*PACKAGES, "tests") for path in (ROOT / package).rglob("*.py")]
    parts = {part: named(path) for path in files for part in path.relative_to(ROOT).with_suffix("").parts}
    assert {part: path for part, path in parts.items() if part.lower().strip("_") in SHAPELESS} == {}


def test_every_failpoint_is_passed_by_a_load_and_listed() -> None:
    """A place that is listed and never passed would make the test that kills there pass without killing."""
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "flows" / "loads").glob("*.py"))
    passed = re.findall(r"pass_failpoint\(\"(\w+)\"", text)
    assert set(passed) == set(FAILPOINTS)


def test_every_listed_place_of_an_exchange_is_one_that_an_exchange_passes() -> None:
    text = (ROOT / "flows/models/exchange.py").read_text(encoding="utf-8")
    assert set(re.findall(r"pass_failpoint\(\"(\w+)\"", text)) == set(EXCHANGE_FAILPOINTS)


def test_a_failpoint_that_is_not_listed_is_refused() -> None:
    with pytest.raises(ValueError, match="add it to FAILPOINTS"):
        pass_failpoint("somewhere_else", "")


def test_there_is_a_changelog() -> None:
    assert re.search(r"^## ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
