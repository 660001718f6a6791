"""Dependencies: each cap says why, what runs by itself is bounded, and updates are proposed for all that is locked."""

import re
import subprocess
import tomllib
from fnmatch import fnmatch
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import dbt.cli.main
import pytest
import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from flows.values.settings import PROJECT_ROOT

TEXT = (PROJECT_ROOT / "pyproject.toml").read_text()
PYPROJECT = tomllib.loads(TEXT)
LOCKED = {
    package["name"]: Version(package["version"])
    for package in tomllib.loads((PROJECT_ROOT / "uv.lock").read_text())["package"]
}
CONSTRAINTS = [Requirement(line) for line in PYPROJECT["tool"]["uv"]["constraint-dependencies"]]
UPDATES: list[dict[str, Any]] = yaml.safe_load((PROJECT_ROOT / ".github/dependabot.yml").read_text())["updates"]
#: Open in Prefect and docket, and here: a release that breaks them fails at import or at the start, where it is seen.
MAY_MOVE = {
    "certifi", "cryptography", "cyclopts", "fsspec", "graphviz", "jinja2-humanize-extension", "pathspec", "pluggy",
    "prometheus-client", "python-json-logger", "ruamel-yaml", "semver", "toml", "exceptiongroup",
}  # fmt: skip


def capped(requirement: Requirement) -> bool:
    return any(part.operator in ("<", "<=", "==", "~=", "===") for part in requirement.specifier)


# -- caps


def without_reason(pyproject: str) -> list[str]:
    """The requirements with an upper end on whose line nothing says why."""
    found = []
    for line in pyproject.splitlines():
        code, _, reason = line.partition(" # ")
        for text in re.findall(r'"([^"]+)"', code):
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue
            if capped(requirement) and len(reason.split()) < 2:
                found.append(text)
    return found


def test_each_cap_says_why() -> None:
    """Without its reason nobody dares to raise one, and nobody knows which to keep."""
    assert without_reason(TEXT) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('  "a<2",', ["a<2"]),
        ("  \"a==2; sys_platform == 'linux'\",", ["a==2; sys_platform == 'linux'"]),
        ('  "a<2", # todo', ["a<2"]),
        ('  "a<2", # 2 drops what we call', []),
        ("  \"a>=1; python_version < '3.14'\",", []),
    ],
)
def test_a_cap_without_a_reason_is_seen(line: str, found: list[str]) -> None:
    assert without_reason(line) == found


# -- what runs by itself


def left_open(*distributions: str) -> set[str]:
    """What they require, none of them with an upper end."""
    required = [
        requirement
        for distribution in distributions
        for requirement in map(Requirement, requires(distribution) or [])
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    ]
    ended = {requirement.name for requirement in required if capped(requirement)}
    return {requirement.name for requirement in required} - ended


def test_what_prefects_server_leaves_open_is_bounded_or_named() -> None:
    """Of its loops nobody sees that they fail: with a new SQLAlchemy no schedule fired, and nothing said so."""
    ours = {*map(Requirement, PYPROJECT["project"]["dependencies"])}
    bounded = {requirement.name for requirement in (*CONSTRAINTS, *ours) if capped(requirement)}
    assert left_open("prefect", "pydocket") - bounded == MAY_MOVE


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=lambda constraint: constraint.name)
def test_a_constraint_ends_with_the_series_that_is_locked(constraint: Requirement) -> None:
    """One that ends later lets in what was never tried; one of a package that is gone is litter."""
    locked = LOCKED[constraint.name]
    (end,) = constraint.specifier
    nexts = {Version(f"{locked.major}.{locked.minor + 1}"), Version(f"{locked.major + 1}")}
    assert end.operator == "<"
    assert Version(end.version) in nexts


def test_dbt_does_not_call_the_parser_that_is_left_out() -> None:
    assert "dbt-core-experimental-parser" not in LOCKED
    options = {option.name: option for option in dbt.cli.main.cli.commands["build"].params}
    assert not options["use_v2_parser"].default


# -- updates


def tracked(name: str) -> set[str]:
    """The folders of the repository that hold a file of that name, as Dependabot writes them."""
    files = subprocess.run(["git", "ls-files"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True).stdout
    return {f"/{Path(file).parent}" for file in files.splitlines() if Path(file).name == name}


def test_updates_are_proposed_for_all_that_is_locked() -> None:
    places = {
        (update["package-ecosystem"], folder)
        for update in UPDATES
        for folder in update.get("directories", [update.get("directory")])
    }
    assert places == {
        ("uv", "/"),
        ("github-actions", "/"),
        *(("docker", folder) for folder in tracked("Dockerfile")),
        *(("npm", folder) for folder in tracked("package-lock.json")),
    }


@pytest.mark.parametrize("update", UPDATES, ids=lambda update: update["package-ecosystem"])
def test_an_update_waits_as_long_as_the_lock_does(update: dict[str, Any]) -> None:
    """Proposed earlier it could not be locked."""
    assert f"{update['cooldown']['default-days']} days" == PYPROJECT["tool"]["uv"]["exclude-newer"]
    assert set(update) <= {
        "package-ecosystem", "directory", "directories", "schedule", "cooldown", "groups", "open-pull-requests-limit",
    }  # fmt: skip


def test_a_group_names_packages_that_are_there() -> None:
    groups = next(update for update in UPDATES if update["package-ecosystem"] == "uv")["groups"]
    patterns = [pattern for group in groups.values() for pattern in group.get("patterns", [])]
    assert [pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in LOCKED)] == []


# -- Pythons


@pytest.mark.parametrize(("workflow", "job"), [("ci.yml", "ci"), ("nightly.yml", "longtest")])
def test_tests_run_on_both_ends_of_what_is_supported(workflow: str, job: str) -> None:
    """And on the Python of the image, whose evidence a promotion asks for."""
    found = yaml.safe_load((PROJECT_ROOT / ".github/workflows" / workflow).read_text())["jobs"][job]
    pythons = found["strategy"]["matrix"]["python"]
    assert pythons == ["3.11", "3.13"]
    assert PYPROJECT["project"]["requires-python"] == f">={pythons[0]}"
    assert found["env"]["UV_PYTHON"] == "${{ matrix.python }}"  # else uv takes the first that it finds
    dockerfile = (PROJECT_ROOT / "deployments/image/Dockerfile").read_text()
    image = re.findall(r"^FROM python:([\d.]+)", dockerfile, re.MULTILINE)
    assert image == [pythons[0]]
    kept = [step for step in found["steps"] if step.get("uses", "").startswith("actions/upload-artifact@")]
    assert all(f"matrix.python == '{image[0]}'" in step["if"] for step in kept)
