"""Staging and production are not deployed to a Prefect server on SQLite, which fails under a backlog."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_KEY, PREFECT_API_URL, PREFECT_CLOUD_API_URL, temporary_settings

from deployments.deploy import session
from deployments.environments import find_environment
from flows.values.errors import ConfigurationError
from infra.local import ports
from infra.local.prefect_server import PrefectServer, api_url
from tests.deployments.deploying import SMALL, Deploying

STRICT = replace(SMALL, needs_postgresql=True)


@pytest.fixture
def on_sqlite(prefect_auth: str, tmp_path: Path) -> Iterator[str]:
    """The API address of a server that was given no database."""
    server = PrefectServer(tmp_path / "prefect", tmp_path / "record", tmp_path / "log", prefect_auth)
    try:
        running = server.start(port=ports.any_free())
        server.wait(running)
        yield api_url(running.port)
    finally:
        server.stop()


@pytest.mark.parametrize("name", ["staging", "production"])
def test_staging_and_production_need_postgresql(name: str) -> None:
    assert find_environment(name).needs_postgresql
    assert not find_environment("dev").needs_postgresql


@pytest.mark.long
def test_a_server_on_sqlite_is_refused_with_the_fix_before_anything_is_written(on_sqlite: str, clone: Path) -> None:
    with temporary_settings({PREFECT_API_URL: on_sqlite}):
        deploying = Deploying(on_sqlite, clone, STRICT)
        before = deploying.filtered("variables")
        with pytest.raises(ConfigurationError, match="uses SQLite") as refusal:
            deploying.deploy()
        assert deploying.filtered("variables") == before
        assert "PREFECT_SERVER_DATABASE_CONNECTION_URL" in refusal.value.fix
        assert refusal.value.exit_code == 2
        # The control: without the need it is looked at, and the plan has something to do.
        assert Deploying(on_sqlite, clone, SMALL).look().pending


@pytest.mark.xdist_group("deployments")
def test_a_server_on_postgresql_is_not(api: str, clone: Path) -> None:
    assert Deploying(api, clone, STRICT).look().pending


def test_prefect_cloud_is_not_asked(prefect_server: str) -> None:
    """It keeps its database where nobody needs to know."""
    cloud = {PREFECT_API_URL: prefect_server, PREFECT_CLOUD_API_URL: prefect_server, PREFECT_API_KEY: "pnu_key"}
    with temporary_settings(cloud), session() as found:
        assert found.server.is_cloud
        assert not found.server.keeps_sqlite()
