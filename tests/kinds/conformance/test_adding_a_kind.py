"""docs/adding-a-kind.md, followed to the letter in a copy of the project: the new kind keeps every promise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kinds.conformance.forking import ROOT
from tests.kinds.conformance.mutants import NAMES
from tests.kinds.conformance.promises import PROMISES
from tests.nightly import nightly

GUIDE = ROOT / "docs/adding-a-kind.md"
REGISTRY = "flows/kinds/registry.py"


def files_of_the_guide() -> dict[str, str]:
    """Each file of the guide with its text: blocks of Python whose first line names it."""
    found = re.findall(r"```python\n# (\S+)\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    return dict(found)


def copy_of_the_project(folder: Path) -> Path:
    """The files under version control, those that are new as well, without what tests of servers install."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "flows", "tests", "blocks", "deployments",
         "infra", "demo", "pyproject.toml", "prefect.yaml", "dbt_project", "soda"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


def with_the_lines(registry: str, lines: str) -> str:
    """The registry with a function and an entry more."""
    function, _, entry = lines.rstrip("\n").rpartition("\n")
    function = function.strip("\n")
    return registry.replace("\n_MADE_BY", f"\n{function}\n\n\n_MADE_BY", 1).replace("\n}\n", f"\n{entry}\n}}\n", 1)


# That the promises would notice a fault is shown with every change by the kinds of the platform.
@pytest.mark.parametrize("suite", ["test_promises.py", *nightly("")], ids=["promises", "and its mutants"])
def test_a_kind_that_is_added_by_the_guide_keeps_every_promise(tmp_path: Path, suite: str) -> None:
    """In a pytest of its own, which uses the servers of this run."""
    files = files_of_the_guide()
    folders = {str(Path(name).parent) for name in files}
    assert folders == {"flows/kinds/memory", "tests/kinds/memory", "flows/kinds"}, "one folder, one line, one fixture"
    copy = copy_of_the_project(tmp_path)
    for name, text in files.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        known = (copy / name).read_text(encoding="utf-8") if name == REGISTRY else ""
        (copy / name).write_text(with_the_lines(known, text) if name == REGISTRY else text, encoding="utf-8")
    (copy / "tests/kinds/memory/__init__.py").write_text("")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n0", "-rp", "-p", "no:cacheprovider",
         f"tests/kinds/conformance/{suite}", "tests/test_layout.py", "-k", "memory or nothing_outside_its_folder"],
        cwd=copy, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    expected = len(PROMISES) + (0 if suite else len(NAMES))
    assert len(re.findall("^PASSED .*memory", done.stdout, re.MULTILINE)) >= expected
    assert "test_nothing_outside_its_folder" in done.stdout
