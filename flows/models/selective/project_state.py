"""The project as the last build stored it, or as dbt parses it now, with the fingerprint that tells which of both."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from flows.models.environment import PASSWORD_VARIABLE, dbt_environment
from flows.models.fingerprint import fingerprint
from flows.models.selective.macros import Values
from flows.models.selective.nodes import Node, Project, read_project
from flows.state.model_builds import ModelBuild

# To be increased whenever nodes are read differently: records of earlier code then count for nothing.
_READER = 2
_DISTRIBUTIONS = ("dbt-core", "dbt-adapters", "dbt-common", "dbt-postgres")
_ENV_VAR = re.compile(r"\benv_var\s*\(\s*(?:['\"](\w+)['\"]|(.))")
# What of dbt_project.yml the manifest gives for each node. The rest, such as quoting and dispatch, counts for all.
_OF_NODES = frozenset(
    {"vars", "models", "seeds", "snapshots", "tests", "data_tests", "unit_tests", "exposures", "sources"}
)
# Comments of statements and names of sessions: they differ in each run, and decide nothing.
_OF_RUN = frozenset({"MEDALLION_CORRELATION_ID", "TRACEPARENT"})


def versions() -> str:
    """Versions of dbt and its adapter, without importing them."""
    found = []
    for name in _DISTRIBUTIONS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} -")
    return ", ".join(found)


def environment(url: str) -> dict[str, str]:
    """What Jinja sees of the environment, without secrets."""
    return {name: value for name, value in dbt_environment(url).items() if name != PASSWORD_VARIABLE}


def state_of(project: Path, url: str) -> str:
    """The fingerprint of everything from which nodes are read. Equal: dbt need not parse the project again."""
    names: set[str] = set()
    for path in project.rglob("*"):
        if path.suffix in {".sql", ".yml", ".yaml"} and path.name != "profiles.yml":
            found = _ENV_VAR.findall(path.read_text(encoding="utf-8"))
            names |= {name for name, _ in found if name} or set()
            names |= set(environment(url)) if any(other for _, other in found) else set()
    seen = environment(url)
    told = [
        _READER,
        fingerprint(project),
        _packages(project),
        versions(),
        {name: seen.get(name) for name in sorted(names - _OF_RUN)},
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def _packages(project: Path) -> list[list[str]]:
    """Installed packages: their files may change while the lock of their versions stays."""
    return [
        [path.relative_to(project).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()]
        for path in sorted((project / "dbt_packages").rglob("*"))
        if path.suffix in {".sql", ".yml", ".yaml", ".csv"} and path.is_file()
    ]


def parsed(manifest: Mapping[str, Any], project: Path, url: str) -> Project:
    """The project from a manifest that dbt has written just now."""
    content: Any = yaml.safe_load((project / "dbt_project.yml").read_text(encoding="utf-8"))
    profile = (project / "profiles.yml").read_text(encoding="utf-8")
    settings = {key: value for key, value in content.items() if key not in _OF_NODES}
    variables = {**(content.get("vars") or {}), **_variables_of_packages(project)}
    values = Values(variables, environment(url), profile)
    return read_project(manifest, project, values, [versions(), settings, profile])


def _variables_of_packages(project: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(project.glob("dbt_packages/*/dbt_project.yml")):
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        found[f"package {path.parent.name}"] = content.get("vars") or {}
    return found


def stored(builds: Mapping[str, ModelBuild], state: str) -> Project | None:
    """The project as it was stored, if it was read from the same state."""
    rows = {name: row for name, row in builds.items() if not name.startswith("contract.")}
    if not rows or any(row.project != state for row in rows.values()):
        return None
    nodes: dict[str, Node] = {}
    relations: dict[str, tuple[str, str]] = {}
    for name, row in rows.items():
        plain = {key: value for key, value in row.node.items() if key not in {"order", "relations"}}
        nodes[name] = Node.of(plain)
        relations |= {key: (value[0], value[1]) for key, value in row.node.get("relations", {}).items()}
    return Project(nodes, relations)


def to_store(project: Project) -> dict[str, dict[str, Any]]:
    """The nodes as JSON, each with the relations among its inputs."""
    return {
        name: node.plain()
        | {"relations": {key: project.relations[key] for key in node.inputs if key in project.relations}}
        for name, node in project.nodes.items()
    }
