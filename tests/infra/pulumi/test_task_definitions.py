"""What containers are told: every variable is one that somebody reads, for a misspelt one is ignored without a word."""

import importlib
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prefect_aws.settings
import prefect_redis.client
import pytest
from prefect.settings import Settings as PrefectSettings
from prefect.settings.base import PrefectBaseSettings
from pydantic import AliasChoices

from flows.values.settings import Settings
from infra.pulumi.graph import Graph
from tests.infra.pulumi.conftest import GraphOf
from tests.nightly import nightly

#: Read by botocore, by Python's ssl module, and by libpq and asyncpg.
OTHERS = {"AWS_DEFAULT_REGION", "SSL_CERT_FILE", "PGSSLROOTCERT"}


def variables_of(model: type[PrefectBaseSettings]) -> Iterator[str]:
    """Every environment variable that a model of settings reads, those of its parts too."""
    prefix = str(model.model_config.get("env_prefix") or "PREFECT_")
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, PrefectBaseSettings):
            yield from variables_of(kind)
        else:
            yield f"{prefix}{name}".upper()
            if isinstance(field.validation_alias, AliasChoices):
                yield from (alias.upper() for alias in field.validation_alias.choices if isinstance(alias, str))


KNOWN = {
    *variables_of(PrefectSettings),
    *variables_of(prefect_aws.settings.AwsSettings),
    *variables_of(prefect_redis.client.RedisMessagingSettings),
    *(f"MEDALLION_{name}".upper() for name in Settings.model_fields),
    *OTHERS,
}


def containers(graph: Graph) -> list[dict[str, Any]]:
    return [
        container
        for node in graph.of("aws:ecs/taskDefinition:TaskDefinition")
        for container in json.loads(node.inputs["containerDefinitions"])
    ]


def test_every_variable_of_a_container_is_a_setting_of_something(graph: Graph) -> None:
    for container in containers(graph):
        told = {item["name"] for item in [*container["environment"], *container["secrets"]]}
        assert told <= KNOWN, f"{container['name']}: nobody reads {sorted(told - KNOWN)}"


def test_a_misspelt_setting_would_be_noticed() -> None:
    assert "PREFECT_SERVER_API_AUTH_STRING" in KNOWN
    assert "PREFECT_AUTH_STRING" not in KNOWN
    assert "PREFECT_INTEGRATIONS_AWS_RDS_IAM_ENABLED" in KNOWN


def test_several_servers_share_events_and_one_needs_no_cache(graph: Graph) -> None:
    by_name = {container["name"]: container for container in containers(graph)}
    several = graph.settings["prefect_server"]["copies"] > 1
    injected = {secret["name"] for secret in by_name["prefect-server"]["secrets"]}
    assert ("PREFECT_REDIS_MESSAGING_URL" in injected) is several
    assert ("prefect-background" in by_name) is several
    assert ("--no-services" in by_name["prefect-server"]["command"]) is several
    assert bool(graph.of("aws:elasticache/replicationGroup:ReplicationGroup")) is several
    migrating = [
        name
        for name, container in by_name.items()
        for variable in container["environment"]
        if (variable["name"], variable["value"]) == ("PREFECT_SERVER_DATABASE_MIGRATE_ON_START", "true")
    ]
    assert len(migrating) == 1, "two processes that bring one database up to date get in each other's way"


@pytest.mark.parametrize("stack", ["production", *nightly("staging", "dev")])
def test_the_server_comes_to_its_database_with_a_token_of_iam(graph_of: GraphOf, stack: str) -> None:
    """The real Prefect, in the container's environment, asked what it would hand to the driver for each connection.

    Three settings in two packages must agree; without one of them the server would come with no password at all.
    """
    [server] = [container for container in containers(graph_of(stack)) if container["name"] == "prefect-server"]
    environment = {variable["name"]: variable["value"] for variable in server["environment"]}
    who = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "PATH": os.environ["PATH"]}
    certificates = {"SSL_CERT_FILE": ssl.get_default_verify_paths().cafile or ""}
    done = subprocess.run(
        [sys.executable, "-c", _ASK_FOR_TOKEN],
        env={**environment, **who, **certificates, "PREFECT_HOME": os.environ["PREFECT_HOME"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    address = environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
    host = address.partition("@")[2].partition("/")[0]
    assert f"{host}/?Action=connect&DBUser=prefect&" in done.stdout
    assert "verifies True" in done.stdout


_ASK_FOR_TOKEN = """
import asyncio
from sqlalchemy.ext import asyncio as sa
from prefect.server.database import configurations
from prefect.settings import get_current_settings

handed = {}

def create(url, **kwargs):
    handed.update(kwargs["connect_args"])
    return sa.create_async_engine(url, **kwargs)

configurations.create_async_engine = create
url = get_current_settings().server.database.connection_url.get_secret_value()
asyncio.run(configurations.AsyncPostgresConfiguration(url).engine())
print(handed["password"]())
print("verifies", handed["ssl"].check_hostname)
"""


def test_the_modules_by_which_servers_share_are_there(graph: Graph) -> None:
    """The image installs the extra `aws`; a name that is none stops the server at its start."""
    named = {
        variable["value"]
        for container in containers(graph)
        for variable in container["environment"]
        if variable["value"].startswith("prefect_")
    }
    assert bool(named) is (graph.settings["prefect_server"]["copies"] > 1)
    for module in named:
        importlib.import_module(module)


@pytest.mark.parametrize(
    "words",
    [["prefect", "server", "services", "start"], *nightly(["prefect", "server", "start", "--no-services"])],
)
def test_the_commands_are_commands_of_the_installed_prefect(words: list[str]) -> None:
    prefect = Path(sys.executable).with_name("prefect")
    done = subprocess.run([prefect, *words[1:3], "--help"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0
    assert words[-1] in done.stdout
