"""Deployments of a small environment in this process, and what the server holds after."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from deployments.deploy import Choice, Prospect, apply, prospect, rollback, session
from deployments.environments import Environment
from tests.deployments.asking import asked

#: Everything is on, and nothing differs from prefect.yaml as it stands.
SMALL = Environment("small", work_pools=("local", "ecs"), active=True, server_alerts=True)


@dataclass
class Deploying:
    """Deploys from `root`; `environment` may be replaced between two deployments."""

    api: str
    root: Path
    environment: Environment = SMALL

    def look(self, *, remove: bool = False, overrule: bool = False, **choice: Any) -> Prospect:
        """What a deployment would do."""
        with session() as server:
            return prospect(server, self._choice(choice), remove=remove, overrule=overrule)

    def deploy(self, *, remove: bool = False, overrule: bool = False, **choice: Any) -> list[str]:
        """Deploy; each change as `create limit warehouse`."""
        told: list[str] = []
        with session() as server:
            found = prospect(server, self._choice(choice), remove=remove, overrule=overrule)
            apply(server, found, lambda change: told.append(_told(change)))
        return told

    def roll_back(self, to: str | None = None, *, remove: bool = False) -> list[str]:
        """Put back a version; each change as `deploy` tells it."""
        told: list[str] = []
        with session() as server:
            found = rollback(server, self.environment, to=to, remove=remove)
            apply(server, found, lambda change: told.append(_told(change)))
        return told

    def only(self, *names: str) -> "Deploying":
        """Leave these deployments in prefect.yaml: with all twelve, the server takes 2 s of a core to take them in."""
        self._keep(lambda name: name in names)
        return self

    def without(self, name: str) -> None:
        """Take a deployment out of prefect.yaml."""
        self._keep(lambda other: other != name)

    def _keep(self, wanted: Callable[[str], bool]) -> None:
        path = self.root / "prefect.yaml"
        document = yaml.safe_load(path.read_text())
        document["deployments"] = [entry for entry in document["deployments"] if wanted(entry["name"])]
        path.write_text(yaml.safe_dump(document))

    def get(self, path: str) -> Any:
        """What the server answers."""
        answer = asked("GET", self.api + path)
        answer.raise_for_status()
        return answer.json()

    def filtered(self, kind: str) -> list[Any]:
        """All that the server holds of a kind, as its API calls it."""
        found: list[Any] = asked("POST", f"{self.api}/{kind}/filter", json={}).json()
        return found

    def _choice(self, choice: dict[str, Any]) -> Choice:
        return replace(Choice(self.environment, root=self.root, version="1"), **choice)


def _told(change: Any) -> str:
    return f"{change.action} {change.resource.kind} {change.resource.name}"
