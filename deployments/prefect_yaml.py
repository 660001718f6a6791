"""prefect.yaml as `prefect deploy --all` reads it: the project's deployments and their triggers."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from flows.values.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class DeclaredDeployment:
    """An entry of prefect.yaml with what its flow's code adds: the flow's name and the schema of its parameters."""

    flow: str
    name: str
    entry: Mapping[str, Any]
    parameter_schema: Mapping[str, Any]

    @property
    def full_name(self) -> str:
        """As the command line of Prefect names it: ingest/ingest-shop."""
        return f"{self.flow}/{self.name}"


def read_deployments(root: Path) -> list[DeclaredDeployment]:
    """Every deployment of the folder's prefect.yaml. Imports their flows, which takes some seconds.

    Raises:
        ConfigurationError: the file is missing or no YAML, or an entrypoint leads to no flow.
    """
    entries = _entries(root)
    with _imports_from(root):
        return [_declared(root, entry) for entry in entries]


def deployment_names(root: Path) -> list[str]:
    """The names of these deployments, without the names of their flows: no flow is imported.

    Raises:
        ConfigurationError: the file is missing or no YAML.
    """
    return [str(entry["name"]) for entry in _entries(root)]


def _entries(root: Path) -> list[dict[str, Any]]:
    path = root / "prefect.yaml"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return list(document["deployments"])
    except FileNotFoundError:
        raise _wrong("prefect.yaml does not exist", str(root), "run this in the project's folder") from None
    except (yaml.YAMLError, KeyError, TypeError):
        raise _wrong("it has no list of deployments", str(path), "correct the file") from None


def _declared(root: Path, entry: dict[str, Any]) -> DeclaredDeployment:
    entrypoint = str(entry.get("entrypoint"))
    try:
        flow: Flow[..., Any] = load_flow_from_entrypoint(str(root / entrypoint))
    except Exception as problem:  # importing may raise anything
        raise _wrong(
            f"{entrypoint} does not lead to a flow ({type(problem).__name__})",
            f"prefect.yaml, deployment {entry.get('name')}",
            "correct the entrypoint, or what its file imports",
        ) from None
    schema = parameter_schema(flow).model_dump(mode="json", exclude_unset=True)
    return DeclaredDeployment(flow.name, str(entry["name"]), entry, schema)


@contextmanager
def _imports_from(root: Path) -> Iterator[None]:
    """Flows import `flows.…` from the folder that is deployed, as they will where they run."""
    before, here = list(sys.path), Path.cwd()
    sys.path.insert(0, str(root))
    os.chdir(root)
    try:
        yield
    finally:
        os.chdir(here)
        sys.path[:] = before


def _wrong(what: str, where: str, fix: str) -> ConfigurationError:
    error = ConfigurationError(what, where=where, fix=fix)
    error.exit_code = 2
    return error
