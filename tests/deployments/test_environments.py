"""Environments are data that refuses to contradict itself."""

from collections.abc import Iterator
from typing import Any

import pytest

from deployments.declared import LAKE_PREFIXES
from deployments.environments import ENVIRONMENTS, Environment, current
from deployments.work_pools import WORK_POOLS, WORK_QUEUES
from flows.values.errors import ConfigurationError, DeclarationError
from flows.values.settings import settings


@pytest.fixture
def clean_settings() -> Iterator[None]:
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.parametrize(
    ("wrong", "because"),
    [
        ({"work_pools": ()}, "work pools must be among"),
        ({"work_pools": ("locl",)}, "work pools must be among"),
        ({"job_variables": {"ecs": {"cpu": 1}}}, "job variables for pools it does not use: ecs"),
        ({"limits": {"source-shpo": 1}}, "no limit called source-shpo"),
        ({"limits": {"warehouse": 0}}, "would stop every load"),
        ({"heartbeat_seconds": 10}, "shortest heartbeat interval"),
        ({"missed_heartbeats": 0}, "must miss at least one heartbeat"),
        ({"attempts": 0}, "at least one attempt"),
        ({"promotes_from": "x"}, "promoted from itself"),
    ],
)
def test_a_contradiction_is_refused_where_it_is_declared(wrong: dict[str, Any], because: str) -> None:
    with pytest.raises(DeclarationError, match=because):
        Environment(**{"name": "x", "work_pools": ("local",), **wrong})


def test_only_production_starts_anything_by_itself_and_asks_for_its_name() -> None:
    assert [environment.name for environment in ENVIRONMENTS if environment.active] == ["production"]
    assert [environment.name for environment in ENVIRONMENTS if environment.asks_for_name] == ["production"]


def test_a_change_passes_every_environment_on_its_way() -> None:
    names = [environment.name for environment in ENVIRONMENTS]
    assert [environment.promotes_from for environment in ENVIRONMENTS] == [None, *names[:-1]]


def test_no_two_pools_share_a_name_and_no_two_queues_a_priority() -> None:
    """Prefect moves the other queue when two ask for one priority, so that a second deployment would move it back."""
    assert len({pool.name for pool in WORK_POOLS}) == len(WORK_POOLS)
    assert len({queue.priority for queue in WORK_QUEUES}) == len(WORK_QUEUES)
    assert "default" in {queue.name for queue in WORK_QUEUES}


@pytest.mark.usefixtures("clean_settings")
def test_an_unknown_environment_is_refused_with_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDALLION_ENVIRONMENT", "prodction")
    with pytest.raises(ConfigurationError, match="dev, staging, production"):
        current()


def test_the_lake_s_blocks_are_known_by_the_names_they_are_made_under() -> None:
    """A name that is not known would have a deployment from a shell without the bucket call its block undeclared."""
    from blocks import aws  # takes two seconds, which is why the names stand twice

    assert LAKE_PREFIXES == aws.LAKE_PREFIXES
