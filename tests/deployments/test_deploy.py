"""`medallion deploy` on a real Prefect server: plan, apply, drift, removal, interruption, rollback."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployments.deploy import Choice, apply, prospect, session
from deployments.environments import Environment
from flows.values.errors import ConfigurationError
from tests.deployments.asking import asked
from tests.deployments.deploying import SMALL, Deploying
from tests.deployments.test_register import prefect

pytestmark = pytest.mark.xdist_group("deployments")

CHANGES_OF_NO_MATTER = {
    "id", "created", "updated", "flow_id", "work_queue_id", "last_polled", "status", "created_by", "updated_by",
    "labels", "version", "version_id", "version_info", "job_variables", "schedules", "global_concurrency_limit",
    "concurrency_limit_id",
}  # fmt: skip


@pytest.fixture
def deploying(api: str, clone: Path) -> Deploying:
    return Deploying(api, clone)


def test_a_plan_changes_nothing_and_a_second_deployment_has_nothing_to_do(deploying: Deploying) -> None:
    before = [deploying.filtered(kind) for kind in ("deployments", "work_pools", "automations", "artifacts")]
    planned = [change.resource.key for change in deploying.look().pending]
    assert [deploying.filtered(kind) for kind in ("deployments", "work_pools", "automations", "artifacts")] == before

    assert len(deploying.deploy()) == len(planned) > 15
    assert deploying.look().pending == []
    assert deploying.deploy() == []


def test_both_ways_to_deploy_make_the_same_deployments_and_automations(deploying: Deploying) -> None:
    """prefect.yaml is the one declaration: what `prefect deploy --all` reads there is what we read."""

    def held() -> tuple[list[Any], list[Any]]:
        deployments = {
            entry["name"]: {name: value for name, value in entry.items() if name not in CHANGES_OF_NO_MATTER}
            | {
                "limit": (entry["global_concurrency_limit"] or {}).get("limit"),
                "schedules": [(made["slug"], made["schedule"], made["active"]) for made in entry["schedules"]],
            }
            for entry in deploying.filtered("deployments")
        }
        names = {entry["id"]: entry["name"] for entry in deploying.filtered("deployments")}
        automations = [
            (
                entry["name"],
                _without_ids(entry["trigger"]),
                [names[action["deployment_id"]] for action in entry["actions"]],
            )
            for entry in deploying.filtered("automations")
            if "follow" in entry["name"]
        ]
        return sorted(deployments.items()), sorted(automations, key=lambda entry: entry[0])

    deploying.deploy()
    ours = held()
    prefect(deploying.api, deploying.root, "deploy", "--all")
    assert held() == ours
    assert len(ours[0]) > 7
    assert len(ours[1]) == 2


def _without_ids(trigger: Any) -> Any:
    if isinstance(trigger, dict):
        return {name: _without_ids(part) for name, part in trigger.items() if name != "id"}
    if isinstance(trigger, list):
        parts = [_without_ids(part) for part in trigger]
        return sorted(parts) if all(isinstance(part, str) for part in parts) else parts
    return trigger


def test_what_an_operator_turned_at_the_server_stays_until_it_is_overruled(deploying: Deploying) -> None:
    deploying.only("ingest-shop", "transform").deploy()
    shop = deploying.get("/deployments/name/ingest/ingest-shop")
    schedule = f"{deploying.api}/deployments/{shop['id']}/schedules/{shop['schedules'][0]['id']}"
    asked("PATCH", schedule, json={"active": False}).raise_for_status()
    asked("PATCH", f"{deploying.api}/v2/concurrency_limits/warehouse", json={"limit": 1}).raise_for_status()

    told = deploying.look(version="2")
    kept = {change.resource.name: dict(change.kept) for change in told.changes if change.kept}
    assert kept == {"ingest/ingest-shop": {"active ingest-shop": (False, True)}, "warehouse": {"limit": (1, 4)}}
    deploying.deploy(version="2")
    shop = deploying.get("/deployments/name/ingest/ingest-shop")
    assert (shop["version"], shop["schedules"][0]["active"]) == ("2", False)
    assert deploying.get("/v2/concurrency_limits/warehouse")["limit"] == 1

    deploying.deploy(version="2", overrule=True)
    assert deploying.get("/deployments/name/ingest/ingest-shop")["schedules"][0]["active"] is True
    assert deploying.get("/v2/concurrency_limits/warehouse")["limit"] == 4


def test_only_what_we_deployed_is_removed_and_only_when_asked(deploying: Deploying) -> None:
    deploying.only("transform", "predict").deploy()
    predict = deploying.get("/deployments/name/predict/predict")
    theirs = {"name": "theirs", "flow_id": predict["flow_id"], "tags": ["predict"], "entrypoint": "a.py:b"}
    asked("POST", f"{deploying.api}/deployments/", json=theirs).raise_for_status()
    deploying.without("predict")

    undeclared = [change.resource.name for change in deploying.look().changes if change.action == "no longer declared"]
    assert undeclared == ["predict follows a transform", "predict/predict"]
    assert deploying.deploy() != []  # automations name all deployments
    assert deploying.get("/deployments/name/predict/predict")["id"] == predict["id"]

    assert deploying.deploy(remove=True) == [
        "remove automation predict follows a transform",
        "remove deployment predict/predict",
    ]
    assert {entry["name"] for entry in deploying.filtered("deployments")} >= {"theirs", "transform"}
    assert "predict" not in {entry["name"] for entry in deploying.filtered("deployments")}


def test_what_was_there_before_us_is_taken_over_and_never_removed(deploying: Deploying) -> None:
    """A work pool that others run in too must outlive our losing interest in it."""
    asked("POST", f"{deploying.api}/work_pools/", json={"name": "local", "type": "process"}).raise_for_status()
    deploying.only("transform").deploy()
    assert deploying.get("/work_pools/local")["description"] == "Processes on this machine"
    deploying.deploy(pool="ecs")
    deploying.deploy(remove=True)
    assert {entry["name"] for entry in deploying.filtered("work_pools")} == {"local", "ecs"}


def test_a_deployment_that_died_half_way_is_finished_by_the_next(deploying: Deploying, tmp_path: Path) -> None:
    """The server refuses the deployments, since the pool's template takes no environment variables."""
    strict = tmp_path / "template.json"
    asks = {"type": "object", "properties": {"env": {"type": "integer"}}}
    strict.write_text(json.dumps({"job_configuration": {"env": "{{ env }}"}, "variables": asks}))
    deploying.only("ingest-shop", "transform")
    with pytest.raises(ConfigurationError, match=r"responded with 4\d\d to POST /deployments/"):
        deploying.deploy(base_job_template=strict)
    assert deploying.filtered("deployments") == []

    kind = {"type": "object", "properties": {"env": {"type": "object"}}}
    strict.write_text(json.dumps({"job_configuration": {"env": "{{ env }}"}, "variables": kind}))
    rest = deploying.deploy(base_job_template=strict)
    assert "create work pool local" not in rest
    assert "update work pool local" in rest
    assert "create deployment transform/transform" in rest
    assert deploying.look().pending == []
    # What the one that died had made is ours all the same.
    deploying.deploy(pool="ecs")
    assert "remove work pool local" in deploying.deploy(remove=True)


def test_an_earlier_version_s_deployments_are_put_back(deploying: Deploying) -> None:
    deploying.only("ingest-shop", "transform").deploy(version="v1")
    prefect_yaml = deploying.root / "prefect.yaml"
    prefect_yaml.write_text(prefect_yaml.read_text().replace("cron: 15 * * * *", "cron: 45 * * * *"))
    deploying.deploy(version="v2")
    deploying.environment = replace(SMALL, limits={"warehouse": 9})
    deploying.deploy(version="v3")

    assert "update deployment ingest/ingest-shop" in deploying.roll_back("v1")
    shop = deploying.get("/deployments/name/ingest/ingest-shop")
    assert (shop["version"], shop["schedules"][0]["schedule"]["cron"]) == ("v1", "15 * * * *")
    assert deploying.get("/v2/concurrency_limits/warehouse")["limit"] == 4
    with pytest.raises(ConfigurationError, match="no earlier version was deployed"):
        deploying.roll_back()
    deploying.roll_back("v3")
    assert deploying.get("/deployments/name/ingest/ingest-shop")["version"] == "v3"
    deploying.roll_back()
    assert deploying.get("/deployments/name/ingest/ingest-shop")["version"] == "v2"
    with pytest.raises(ConfigurationError, match="no version 'v7' was deployed"):
        deploying.roll_back("v7")


@pytest.mark.long
def test_records_are_bounded_and_the_newest_are_kept(deploying: Deploying, monkeypatch: pytest.MonkeyPatch) -> None:
    deploying.only("transform")
    monkeypatch.setattr("deployments.records.KEPT", 2)
    for version in ("1", "2", "3"):
        deploying.deploy(version=version)
    kept = [entry["description"] for entry in deploying.filtered("artifacts")]
    assert sorted(kept) == ["small: 2, done", "small: 3, done"]


def test_a_plan_that_has_gone_stale_is_refused_and_changes_nothing(deploying: Deploying) -> None:
    """While a person reads the plan, another pauses a schedule for good reason: the plan must not resume it."""
    deploying.only("ingest-shop", "transform").deploy()
    prefect_yaml = deploying.root / "prefect.yaml"
    prefect_yaml.write_text(prefect_yaml.read_text().replace("cron: 15 * * * *", "cron: 45 * * * *"))
    with session() as server:
        found = prospect(server, Choice(SMALL, root=deploying.root, version="2"))
        shop = deploying.get("/deployments/name/ingest/ingest-shop")
        asked("POST", f"{deploying.api}/deployments/{shop['id']}/pause_deployment").raise_for_status()
        with pytest.raises(ConfigurationError, match="deployment ingest/ingest-shop") as refused:
            apply(server, found, lambda change: None)
    assert refused.value.retryable
    shop = deploying.get("/deployments/name/ingest/ingest-shop")
    assert (shop["paused"], shop["schedules"][0]["schedule"]["cron"]) == (True, "15 * * * *")
    assert deploying.look().record.version == "1"


def test_a_plan_from_before_somebody_else_s_deployment_is_refused(deploying: Deploying) -> None:
    deploying.only("transform").deploy(version="1")
    with session() as server:
        found = prospect(server, Choice(SMALL, root=deploying.root, version="2"))
        deploying.deploy(version="3")
        with pytest.raises(ConfigurationError, match="has changed since the plan"):
            apply(server, found, lambda change: None)
    assert deploying.get("/deployments/name/transform/transform")["version"] == "3"


def test_one_server_holds_one_environment(deploying: Deploying) -> None:
    """Deployments have the same names everywhere: staging on production's server would overwrite production."""
    deploying.only("transform").deploy()
    deploying.environment = Environment("other", work_pools=("local",))
    with pytest.raises(ConfigurationError, match="this server is small, not other"):
        deploying.look()


def test_a_pool_and_an_image_that_were_chosen_once_are_remembered(deploying: Deploying) -> None:
    deploying.environment = Environment("small", work_pools=("local", "docker"))
    with pytest.raises(ConfigurationError, match="need an image"):
        deploying.look(pool="docker")
    deploying.only("transform").deploy(pool="docker", image="registry.example.com/medallion:1")
    record = deploying.look().record
    assert (record.pool, record.image) == ("docker", "registry.example.com/medallion:1")
    transform = deploying.get("/deployments/name/transform/transform")
    assert transform["job_variables"]["image"] == "registry.example.com/medallion:1"
    assert transform["pull_steps"] == [{"prefect.deployments.steps.set_working_directory": {"directory": "/app"}}]


def test_a_pool_of_another_type_is_refused_before_anything_changes(deploying: Deploying) -> None:
    asked("POST", f"{deploying.api}/work_pools/", json={"name": "local", "type": "docker"}).raise_for_status()
    with pytest.raises(ConfigurationError, match="has type docker, not process"):
        deploying.look()


def test_no_secret_stands_in_a_plan_a_record_a_deployment_or_an_automation(
    deploying: Deploying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", "postgresql://l:pw-warehouse@db/w")
    monkeypatch.setenv("MEDALLION_SOURCE_MARKETING_URL", "https://api.example.com")
    monkeypatch.setenv("MEDALLION_SOURCE_MARKETING_KEY", "pw-key")
    monkeypatch.setenv("MEDALLION_ALERT_WEBHOOK_URL", "https://hooks.example.com/pw-hook")
    shown = repr(deploying.only("ingest-marketing", "transform").look())
    deploying.deploy()
    shown += repr(deploying.look())
    shown += "".join(json.dumps(deploying.filtered(kind)) for kind in ("artifacts", "deployments", "automations"))
    shown += json.dumps(deploying.filtered("block_documents"))  # the server masks what is a secret
    assert "medallion-warehouse/warehouse" in shown
    assert re.findall(r"pw-\w+", shown) == []
    monkeypatch.setenv("MEDALLION_SOURCE_MARKETING_KEY", "pw-rotated")
    assert [(change.resource.name, [*change.differs]) for change in deploying.look().pending] == [
        ("medallion-source-api/source-marketing", ["key"])
    ]


def test_blocks_that_this_shell_cannot_fill_stay_and_are_told_when_nobody_has_filled_them(
    deploying: Deploying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", "postgresql://l@db/w")
    deploying.only("transform").deploy()
    monkeypatch.delenv("MEDALLION_WAREHOUSE_URL")
    found = deploying.look(remove=True)
    assert found.pending == []
    assert [note.split(":")[0] for note in found.notes if "block source" in note] == [
        "no block source-shop", "no block source-marketing", "no block source-currency",
    ]  # fmt: skip
    assert not any("warehouse" in note for note in found.notes)
