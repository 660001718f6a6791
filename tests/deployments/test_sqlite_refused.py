"""Staging and production are not deployed to a Prefect server on SQLite, which fails under a backlog."""

from dataclasses import replace
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_KEY, PREFECT_API_URL, PREFECT_CLOUD_API_URL, temporary_settings

from deployments.deploy import session
from deployments.environments import find_environment
from flows.values.errors import ConfigurationError
from tests.deployments.deploying import SMALL, Deploying

pytestmark = pytest.mark.xdist_group("deployments")

STRICT = replace(SMALL, needs_postgresql=True)


@pytest.mark.parametrize("name", ["staging", "production"])
def test_staging_and_production_need_postgresql(name: str) -> None:
    assert find_environment(name).needs_postgresql
    assert not find_environment("dev").needs_postgresql


def test_a_server_on_sqlite_is_refused_with_the_fix_before_anything_is_written(
    prefect_server: str, clone: Path
) -> None:
    with temporary_settings({PREFECT_API_URL: prefect_server}):
        deploying = Deploying(prefect_server, clone, STRICT)
        before = deploying.filtered("variables")
        with pytest.raises(ConfigurationError, match="keeps its database in SQLite") as refusal:
            deploying.deploy()
        assert deploying.filtered("variables") == before
        assert "PREFECT_SERVER_DATABASE_CONNECTION_URL" in refusal.value.fix
        assert refusal.value.exit_code == 2
        # The control: without the need it is looked at, and the plan has something to do.
        assert Deploying(prefect_server, clone, SMALL).look().pending


def test_a_server_on_postgresql_is_not(api: str, clone: Path) -> None:
    assert Deploying(api, clone, STRICT).look().pending


def test_prefect_cloud_is_not_asked(prefect_server: str) -> None:
    """It keeps its database where nobody needs to know."""
    cloud = {PREFECT_API_URL: prefect_server, PREFECT_CLOUD_API_URL: prefect_server, PREFECT_API_KEY: "pnu_key"}
    with temporary_settings(cloud), session() as found:
        assert found.server.is_cloud
        assert not found.server.keeps_sqlite()
