"""Flows on the run's Prefect server, against small databases."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect.context import refresh_global_settings_context

from flows.models.shadow import NEXT
from flows.tasks import gates, tables
from flows.tasks.builds import target_of
from flows.transform import transform
from flows.values.settings import settings
from tests.conftest import TestCluster, TestDatabase, copy_of, fresh_warehouse
from tests.dbt_project import parsed
from tests.flows.prefect_facts import forget_senders
from tests.flows.scripted_api import ScriptedApi
from tests.flows.small_project import write_project
from tests.kinds.loading import addresses


@dataclass(frozen=True)
class Ends:
    """Where the flows read and write."""

    warehouse: TestDatabase
    shop: TestDatabase


@pytest.fixture
def ends(
    prefect_server: str, warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ends]:
    """The platform's settings point to the databases of this test; retries do not wait."""
    for name, value in addresses(warehouse, shop).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tables, "load", tables.load.with_options(retry_delay_seconds=0))
    monkeypatch.setattr(gates, "check_gate", gates.check_gate.with_options(retry_delay_seconds=0))
    settings.cache_clear()
    forget_senders()
    yield Ends(warehouse, shop)
    settings.cache_clear()


@pytest.fixture
def marketing_api(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedApi]:
    """A small commerce API, counting what it is asked."""
    with ScriptedApi() as api:
        monkeypatch.setenv("MEDALLION_SOURCE_MARKETING_URL", api.url)
        monkeypatch.setenv("MEDALLION_SOURCE_MARKETING_KEY", api.key)
        monkeypatch.setenv("MEDALLION_SOURCE_CURRENCY_URL", api.url)
        monkeypatch.setenv("MEDALLION_SOURCE_CURRENCY_KEY", api.key)
        yield api


# -- a warehouse that an ordinary transform of the small project has built


def point_at(database: TestDatabase, home: Path, project: Path, patch: pytest.MonkeyPatch) -> None:
    """The platform works on this warehouse, with this project and its contracts."""
    patch.setenv("MEDALLION_WAREHOUSE_URL", database.url("loader"))
    patch.setenv("MEDALLION_WAREHOUSE_TRANSFORMER_URL", database.url("transformer"))
    patch.setenv("MEDALLION_HOME", str(home))
    for module in ("flows.transform", "flows.tasks.builds", "flows.tasks.selective", "flows.release"):
        patch.setattr(f"{module}.DBT_PROJECT", project)
    patch.setattr(gates, "contracts_of", lambda gate: [project.parent / f"{gate}.yml"])
    patch.setattr(gates, "check_gate", gates.check_gate.with_options(retry_delay_seconds=0))
    settings.cache_clear()


def keep_what_was_parsed(database: TestDatabase) -> None:
    """Of the small project, by transforms and by releases: dbt reads again what the next test has edited."""
    for prefix in ("", NEXT):
        parsed.keep(target_of(prefix), database.url("transformer"), project=f"small {prefix}")


@pytest.fixture(scope="session")
def built(
    cluster: TestCluster, prefect_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestDatabase]:
    """A warehouse whose shared schemas an ordinary transform has built."""
    folder = tmp_path_factory.mktemp("built")
    # dbt's own threads know only the settings that Prefect read when it was imported: without an address they would
    # start a server for each build.
    refresh_global_settings_context()
    from tests.dbt_project.quick_dbt import hurrying  # dbt takes seconds to import, and most tests here need none

    with hurrying(), fresh_warehouse(cluster) as database:
        with pytest.MonkeyPatch.context() as patch:
            point_at(database, folder / "home", write_project(folder), patch)
            transform()
            keep_what_was_parsed(database)
        settings.cache_clear()
        yield database


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path)


@pytest.fixture
def shared(
    built: TestDatabase, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestDatabase]:
    """A copy of it for one test."""
    with copy_of(built) as database:
        point_at(database, tmp_path / "home", project, monkeypatch)
        for prefix in ("", NEXT):
            parsed.hand_over(target_of(prefix), database.url("transformer"), project=f"small {prefix}")
        yield database
        keep_what_was_parsed(database)
    settings.cache_clear()
