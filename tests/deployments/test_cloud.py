"""What differs on Prefect Cloud. There is none here: a relay before a real server answers what only Cloud has."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_KEY, PREFECT_API_URL, PREFECT_CLOUD_API_URL, temporary_settings

from deployments.environments import Objective
from tests.deployments.deploying import SMALL, Deploying
from tests.kinds.api.servers.imitation import Asked, Reply, as_json
from tests.kinds.api.servers.relay import Relay

pytestmark = pytest.mark.xdist_group("deployments")

FAST = replace(SMALL, objectives=(Objective("fast", deployment="transform", minutes=30),))


@dataclass
class Cloud(Relay):
    """Takes service levels as Cloud's API does, and passes everything else on."""

    levels: list[tuple[str, Any]] = field(default_factory=list)

    async def respond(self, asked: Asked) -> Reply:
        place = "/api/slas/apply-resource-slas/"
        if asked.path.startswith(place):
            self.levels.append((asked.path.removeprefix(place), json.loads(asked.body)))
            return as_json(200, {"created": [], "updated": [], "deleted": []})
        return await super().respond(asked)


@pytest.fixture
def cloud(api: str) -> Iterator[Cloud]:
    with Cloud(to=api.removesuffix("/api")) as relay:
        address = f"{relay.url}/api"
        settings = {PREFECT_API_URL: address, PREFECT_CLOUD_API_URL: address, PREFECT_API_KEY: "pnu_key"}
        with temporary_settings(settings):
            yield relay


def test_service_levels_are_set_on_cloud_once(cloud: Cloud, clone: Path) -> None:
    deploying = Deploying(f"{cloud.to}/api", clone, FAST).only("transform")
    assert deploying.look().is_cloud
    assert "create objective transform/transform" in deploying.deploy()
    transform = deploying.get("/deployments/name/transform/transform")["id"]
    owner = f"prefect.deployment.{transform}"
    level = {"name": "fast", "severity": "high", "enabled": True, "duration": 1800, "owner_resource": owner}
    assert cloud.levels == [(owner, [level])]
    assert deploying.deploy() == []
    deploying.environment = SMALL
    assert "remove objective transform/transform" in deploying.deploy(remove=True)
    assert cloud.levels[1:] == [(owner, [])]


def test_elsewhere_they_are_left_out_and_the_plan_says_so(api: str, clone: Path) -> None:
    """A server of one's own answers 404 to them, which would end the deployment in the middle."""
    deploying = Deploying(api, clone, FAST).only("transform")
    found = deploying.look()
    assert not found.is_cloud
    assert [change.resource.name for change in found.changes if change.action == "left out"] == ["transform/transform"]
    deploying.deploy()
    assert deploying.look().pending == []
