"""Settings: what AWS would refuse an hour into a deployment is refused at once, in words."""

from typing import Any

import pulumi
import pytest

from infra.pulumi.graph import STACKS, record, settings_of
from infra.pulumi.stack import parse


def settings(stack: str = "production", **changed: Any) -> dict[str, Any]:
    """A stack's settings, changed by `network__nat="one"` and the like."""
    document: dict[str, Any] = settings_of(stack)["medallion:platform"]
    for path, value in changed.items():
        *parents, name = path.split("__")
        place = document
        for parent in parents:
            place = place[parent]
        place[name] = value
    return document


@pytest.mark.parametrize("stack", STACKS)
def test_the_settings_of_every_stack_are_accepted(stack: str) -> None:
    parse(settings(stack), stack=stack)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"network__cidr": "10.0.0.0/24"}, "too small"),
        ({"network__nat": "one"}, "not redundant: network.nat"),
        ({"warehouse__multi_az": False}, "not redundant: warehouse.multi_az"),
        ({"prefect_server__copies": 1, "prefect_server__max_copies": 1}, "not redundant: prefect_server.copies"),
        ({"prefect_server__memory_mb": 1000}, "Fargate offers 2048 CPU units with 4096 to 16384 MB"),
        ({"work_pool__flow_cpu": 3000}, "Fargate does not offer 3000 CPU units"),
        ({"warehouse__max_storage_gb": 500}, "must exceed storage_gb by a tenth"),
        ({"warehouse__backup_days": 0}, "warehouse.backup_days"),
        ({"lake__infrequent_after_days": 7}, "lake.infrequent_after_days"),
        ({"lake__archive_after_days": 40}, "at least 30 days after"),
        ({"lake__expire_after_days": 200}, "90 days after"),
        ({"access__public": True}, "needs allowed_cidrs"),
        ({"access__certificate_arn": "none"}, "access.certificate_arn"),
        ({"logs__retention_days": 45}, "logs.retention_days"),
        ({"warehouse__instance_clas": "db.t4g.micro"}, "warehouse.instance_clas: Extra inputs"),
    ],
)
def test_what_cannot_work_is_refused_with_its_place(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(pulumi.RunError) as refused:
        parse(settings(**changed), stack="production")
    assert words in str(refused.value)
    assert str(refused.value).startswith("Pulumi.production.yaml")


def test_one_server_cannot_scale_without_a_cache() -> None:
    """Two servers without a shared cache each see half of the events, and nothing says so."""
    with pytest.raises(pulumi.RunError, match="events of one copy are not shared"):
        parse(settings("dev", prefect_server__max_copies=2), stack="dev")


def test_wrong_settings_stop_the_program() -> None:
    config = settings_of("dev")
    del config["medallion:platform"]["budget"]
    with pytest.raises(pulumi.RunError, match="budget: Field required"):
        record("dev", config)
