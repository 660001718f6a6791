"""`python -m tests.near [BASE]`: the tests that a change can reach, for pytest; the change is what differs from BASE.

A test is reached by what it imports, and by what that imports; by the modules whose names it holds as text, since it
may start them as processes; by the `conftest.py` of its folders; and by any change of code if it reads the sources as
text. Where that says nothing, as for files that are not Python, all tests are near. BASE is `main` unless given; what
counts is where the branch left it, and what is not committed yet.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from grimp import ImportGraph, build_graph

ROOT = Path(__file__).parents[1]
PACKAGES = ("flows", "blocks", "deployments", "infra", "demo", "benchmarks", "tests")
ALL = {"tests"}
#: It names what it imports ahead of time for all; who has something forked names that, too.
FORKING = "tests.kinds.conformance.forking"
_NAME = re.compile(rf"\b(?:{'|'.join(PACKAGES)})(?:\.\w+)+")
_IMPORT = re.compile(rf"\bfrom ((?:{'|'.join(PACKAGES)})[\w.]*) import ([\w, ]+)")
#: A test with one of these in its text looks at whatever is there: at files, or at flows by their places.
_READS_SOURCES = re.compile(r'glob\("\*\.py"\)|ls-files|\btests\.docs\b|entrypoint|\blint')
_READS_DOCUMENTS = re.compile(r"\.md\b|\bdocs\b|markdown")


def changed(base: str = "main") -> set[str]:
    """The paths that differ from where the branch left `base`; of a file that was moved, both."""
    left = _git("merge-base", base, "HEAD").strip()
    differs = _git("diff", "--name-only", "--no-renames", left)
    return {*differs.splitlines(), *_git("ls-files", "--others", "--exclude-standard").splitlines()}


def near(paths: Iterable[str]) -> set[str]:
    """The files of the tests that a change of these files can reach; `ALL` where that cannot be told."""
    found: set[str] = set()
    graph = _graph()
    for path in paths:
        module = _module(path)
        if path.endswith(".md"):
            found |= _tests_with(_READS_DOCUMENTS)
        elif module is None or module not in graph.modules:
            if _is_test(path):  # it is gone, and with it what it tried
                continue
            return ALL
        else:
            found |= {_path(each) for each in {module, *graph.find_downstream_modules(module)} if _is_test(_path(each))}
            found |= _tests_with(_READS_SOURCES)
    return found


@cache
def _graph() -> ImportGraph:
    """Who imports whom, with what else makes a module need another."""
    graph = build_graph(*PACKAGES, cache_dir=None)
    for module in sorted(graph.modules):
        packages = [module.rsplit(".", up)[0] for up in range(1, module.count(".") + 1)]
        for package in packages:  # importing a module runs what is above it
            graph.add_import(importer=module, imported=package)
        needed: set[str] = set()
        if module.startswith("tests.") and module != FORKING:
            needed |= _named_in(_text(module), graph.modules)
        if _is_test(_path(module)):
            needed |= {f"{package}.conftest" for package in packages} & graph.modules
        for name in needed - {module}:
            graph.add_import(importer=module, imported=name)
    return graph


def _named_in(text: str, modules: set[str]) -> set[str]:
    """Modules named in text, by `flows.cli` or `from flows import cli`; a package is all that is in it."""
    named = {found[0] for found in _NAME.finditer(text)}
    for found in _IMPORT.finditer(text):
        named |= {found[1], *(f"{found[1]}.{name.strip()}" for name in found[2].split(","))}
    needed = set()
    for name in named:
        parts = name.split(".")
        longest = (".".join(parts[:length]) for length in range(len(parts), 1, -1))
        known = next((module for module in longest if module in modules), None)
        if known is not None:
            needed |= {known, *(module for module in modules if module.startswith(f"{known}."))}
    return needed


def _text(module: str) -> str:
    """What stands in a module's strings; names that it imports are known."""
    tree = ast.parse((ROOT / _path(module)).read_text())
    return "\n".join(
        node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _tests_with(words: re.Pattern[str]) -> set[str]:
    return {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "tests").rglob("test_*.py")
        if words.search(file.read_text())
    }


def _module(path: str) -> str | None:
    if not path.endswith(".py") or path.partition("/")[0] not in PACKAGES:
        return None
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _path(module: str) -> str:
    file = module.replace(".", "/")
    return f"{file}/__init__.py" if (ROOT / file / "__init__.py").exists() else f"{file}.py"


def _is_test(path: str) -> bool:
    return path.startswith("tests/") and path.rpartition("/")[2].startswith("test_") and path.endswith(".py")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def main() -> None:
    """Print the files, in a line; nothing if no test is near."""
    found = near(changed(*sys.argv[1:2]))
    sys.stderr.write("all tests are near\n" if found == ALL else f"{len(found)} files of tests are near\n")
    sys.stdout.write(" ".join(sorted(found)))


if __name__ == "__main__":
    main()
