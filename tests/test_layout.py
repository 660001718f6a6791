"""The house stands as drawn: arrows, names, docstrings, and lists that must not drift from what they list."""

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from flows.failures.failpoints import FAILPOINTS, SWAP_FAILPOINTS, pass_failpoint
from flows.kinds.registry import KINDS
from tests.source_files import PACKAGES, ROOT, SOURCES, named, nodes, tree

pytestmark = pytest.mark.xdist_group("sources")

SHAPELESS = {"utils", "util", "helpers", "helper", "common", "manager", "handler", "misc"}


def test_the_arrows_point_downwards() -> None:
    """Rooms never import each other, nor Prefect: otherwise none of them could be tested or replaced alone."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_says_what_it_is() -> None:
    silent = [named(path) for path in SOURCES if tree(path).body and not ast.get_docstring(tree(path))]
    assert silent == []


def test_everything_public_says_what_it_does() -> None:
    silent = [
        f"{named(path)}: {node.name}"
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] in ("flows", "blocks")
        for node in tree(path).body
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
    loading = [path for folder in ("kinds", "publish", "verbs") for path in (ROOT / "flows" / folder).rglob("*.py")]
    text = "".join(path.read_text(encoding="utf-8") for path in loading)
    passed = re.findall(r"pass_failpoint\(\"(\w+)\"", text)
    assert set(passed) == set(FAILPOINTS)


def test_every_listed_place_of_an_exchange_is_one_that_an_exchange_passes() -> None:
    text = (ROOT / "flows/models/swap.py").read_text(encoding="utf-8")
    assert set(re.findall(r"pass_failpoint\(\"(\w+)\"", text)) == set(SWAP_FAILPOINTS)


def test_a_failpoint_that_is_not_listed_is_refused() -> None:
    with pytest.raises(ValueError, match="add it to FAILPOINTS"):
        pass_failpoint("somewhere_else", "")


def test_there_is_a_changelog() -> None:
    assert re.search(r"^## ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_root_of_flows_is_what_prefect_runs() -> None:
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    run = {Path(entry["entrypoint"].split(":")[0]).name for entry in declared}
    assert {path.name for path in (ROOT / "flows").glob("*.py")} - {"__init__.py"} == run


def imports_of(path: Path) -> set[str]:
    found = {node.module or "" for node in nodes(path) if isinstance(node, ast.ImportFrom)}
    return found | {alias.name for node in nodes(path) if isinstance(node, ast.Import) for alias in node.names}


# Prefect asks a broker's module for all the names of the broker that it replaces.
BROKERS = {"infra/events/memory.py", "infra/events/redis.py"}


def test_only_packages_export_what_other_modules_define() -> None:
    """With two places to import a name from, a search for its users finds half of them."""
    exported = {}
    for path in SOURCES:
        if path.name == "__init__.py" or named(path) in BROKERS:
            continue
        listed = {
            name
            for node in tree(path).body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            for name in ast.literal_eval(node.value)
        }
        imported = {
            alias.asname or alias.name
            for node in tree(path).body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        if listed & imported:
            exported[named(path)] = sorted(listed & imported)
    assert exported == {}, "take these names out of `__all__`, and import them from the modules that define them"


MOST_PARAMETERS = 7


def test_no_function_takes_eight_parameters() -> None:
    """Some of them always travel together: a frozen dataclass gives that group a name, as `Stamp` and `Ends` do."""
    long = []
    for path in (ROOT / "flows").rglob("*.py"):
        for node in nodes(path):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            # A command has a parameter for each of its options: Typer reads them there.
            is_command = path.is_relative_to(ROOT / "flows/cli") and "typer." in ast.unparse(node.args)
            count = sum(argument.arg not in ("self", "cls") for argument in arguments)
            if count > MOST_PARAMETERS and not is_command:
                long.append(f"{named(path)}: {node.name} takes {count} parameters")
    assert long == [], "group parameters that belong together in a frozen dataclass"


#: A kind that reads the databases of others in another way, and copies and compares their tables as those do; or the
#: files of another one.
BUILT_ON = {"changelog": {"postgres"}, "captured": {"postgres", "databases"}, "debezium": {"files"}}


def test_nothing_outside_its_folder_knows_a_kind_of_source() -> None:
    """Only the registry does, and declared sources, which are made of its words."""
    kinds = {path.name for path in (ROOT / "flows/kinds").iterdir() if (path / "kind.py").is_file()}
    assert kinds == set(KINDS)
    knowing = {}
    for path in SOURCES:
        inside = path.relative_to(ROOT).parts
        if inside[:2] == ("flows", "sources") or path == ROOT / "flows/kinds/registry.py":
            continue
        own = inside[2] if inside[:2] == ("flows", "kinds") and len(inside) > 3 else ""
        others = {f"flows.kinds.{kind}" for kind in kinds - {own, *BUILT_ON.get(own, ())}}
        named_kinds = {name for name in imports_of(path) if ".".join(name.split(".")[:3]) in others}
        if named_kinds:
            knowing[named(path)] = sorted(named_kinds)
    assert knowing == {}


def test_no_folder_of_flows_hides_an_installed_package() -> None:
    """A worker's process has the folder of the flow's file first on its path."""
    installed = set(packages_distributions()) | sys.stdlib_module_names
    assert {path.stem for path in (ROOT / "flows").iterdir()} & installed == set()
