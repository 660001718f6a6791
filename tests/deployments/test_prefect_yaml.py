"""prefect.yaml held against Prefect's own model. Prefect ignores keys it does not know: a typo would just vanish."""

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.cli.deploy._models import ConcurrencyLimitSpec, DeploymentConfig, PrefectYamlModel
from prefect.client.schemas.objects import ConcurrencyLimitStrategy
from prefect.flows import Flow, load_flow_from_entrypoint

from deployments.work_pools import WORK_POOLS, WORK_QUEUES
from flows.sources import SOURCES
from tests.docs.markdown import rows_of

ROOT = Path(__file__).parents[2]
DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text())
DEPLOYMENTS: list[dict[str, Any]] = DOCUMENT["deployments"]


def unknown_keys(document: dict[str, Any]) -> list[str]:
    """Keys that Prefect's model drops: those that do not come back out of it."""
    understood = PrefectYamlModel.model_validate(document).model_dump(by_alias=True, exclude_unset=True, mode="json")
    return list(_lost(document, understood, ""))


def _lost(given: Any, kept: Any, where: str) -> list[str]:
    if isinstance(given, dict):
        kept = kept if isinstance(kept, dict) else {}
        return [
            lost
            for key, value in given.items()
            for lost in ([f"{where}{key}"] if key not in kept else _lost(value, kept[key], f"{where}{key}."))
        ]
    if isinstance(given, list):
        return [lost for index, value in enumerate(given) for lost in _lost(value, kept[index], f"{where}{index}.")]
    return []


def test_prefect_knows_every_key() -> None:
    assert unknown_keys(DOCUMENT) == []


@pytest.mark.parametrize(
    "typo",
    [
        {"deployment": []},
        {"deployments": [{"name": "x", "concurency_limit": 1}]},
        {"deployments": [{"name": "x", "concurrency_limit": {"limit": 1, "colision_strategy": "ENQUEUE"}}]},
        {"deployments": [{"name": "x", "work_pool": {"nam": "local"}}]},
    ],
)
def test_a_typo_would_be_found(typo: dict[str, Any]) -> None:
    """The test above is worth what this one says: Prefect itself accepts all of these."""
    PrefectYamlModel.model_validate(typo)
    assert len(unknown_keys(typo)) == 1


def test_every_collision_strategy_is_one_of_prefects() -> None:
    """The model takes any text here; the server refuses it only when the deployment is applied."""
    for deployment in DEPLOYMENTS:
        limit = DeploymentConfig.model_validate(deployment).concurrency_limit
        assert isinstance(limit, ConcurrencyLimitSpec)
        ConcurrencyLimitStrategy(limit.collision_strategy)


def test_every_source_has_its_ingest_on_its_schedule() -> None:
    ingests = {entry["parameters"]["source"]: entry for entry in DEPLOYMENTS if "ingest" in entry["tags"]}
    assert set(ingests) == {source.name for source in SOURCES}
    for source in SOURCES:
        assert [schedule["cron"] for schedule in ingests[source.name].get("schedules", [])] == [source.schedule]


def test_names_and_schedule_slugs_are_unique() -> None:
    names = [entry["name"] for entry in DEPLOYMENTS]
    slugs = [schedule["slug"] for entry in DEPLOYMENTS for schedule in entry.get("schedules", [])]
    assert len(set(names)) == len(names)
    assert len(set(slugs)) == len(slugs)


def test_every_work_pool_is_a_declared_one() -> None:
    assert {entry["work_pool"]["name"] for entry in DEPLOYMENTS} <= {pool.name for pool in WORK_POOLS}


def test_no_path_of_a_machine_and_no_secret_stands_in_the_file() -> None:
    text = (ROOT / "prefect.yaml").read_text()
    assert not re.search(r"[\s\"']/(?:home|root|Users|work|tmp|opt)/|://[^\s]*@", text)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda entry: entry["name"])
def test_every_entrypoint_is_a_flow_that_takes_the_parameters(deployment: dict[str, Any]) -> None:
    flow: Flow[..., Any] = load_flow_from_entrypoint(str(ROOT / deployment["entrypoint"]))
    inspect.signature(flow.fn).bind_partial(**deployment["parameters"])


def test_a_worker_that_builds_finds_dbt_and_no_folder_of_ours_that_has_its_name() -> None:
    """Prefect puts the folder of the flow's file first on the path, and every build by a worker failed there."""
    builds = ("transform", "release", "pipeline")
    entrypoints = [entry["entrypoint"] for entry in DEPLOYMENTS if entry["name"] in builds]
    assert len(entrypoints) == len(builds)
    worker = f"""
from prefect.flows import load_flow_from_entrypoint
for entrypoint in {entrypoints!r}:
    load_flow_from_entrypoint(entrypoint)
from flows.tasks.begin import begin
begin()
import dbt.cli.main
"""
    done = subprocess.run([sys.executable, "-c", worker], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_deployment_stands_in_the_timetable_with_its_queue() -> None:
    rows = {row[0]: row for row in rows_of(ROOT / "docs/deploy.md") if len(row) == 3}
    for entry in DEPLOYMENTS:
        row = rows[f"`{entry['name']}`"]
        assert row[2] == entry["work_pool"].get("work_queue_name", "default")
        for schedule in entry.get("schedules", []):
            assert schedule["cron"].split()[0] in row[1], "its minute"


def test_every_queue_that_is_named_is_a_declared_one() -> None:
    """Prefect would make any other, with a priority that nobody chose."""
    named = {entry["work_pool"].get("work_queue_name", "default") for entry in DEPLOYMENTS}
    assert named <= {queue.name for queue in WORK_QUEUES}
