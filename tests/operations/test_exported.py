"""Metrics say what the warehouse holds, in names that Prometheus and its users expect."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flows.access.addresses import connect
from flows.declare import Merge, Replace, Rule
from flows.kinds.postgres import Table
from flows.operations.exported import exposition, measured
from flows.operations.metric_registry import METRICS
from flows.state import circuits, runs
from flows.state.usage import Usage, record_usage
from tests.conftest import TestDatabase
from tests.kinds.loading import at
from tests.operations.alerting import condition, desk
from tests.publish.two_ends import TwoEnds


async def exported(warehouse: TestDatabase) -> str:
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        return exposition(await measured(connection)).decode()


def values(text: str) -> dict[str, float]:
    """Each sample by its name and the values of its labels."""
    return {
        " ".join([sample.name.removeprefix("medallion_"), *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics_of_a_table_are_those_of_its_last_load(warehouse: TestDatabase, shop: TestDatabase) -> None:
    ends = TwoEnds(warehouse, shop)
    rule = Rule("is_small", "store_id < 1000000")
    stores = Table("stores", key="store_id", load=Merge(), rules=(rule,), max_quarantined=1.0)
    await ends.load(stores)
    ends.source("insert into stores (store_id, name) values (2000000, 'far away'), (77, 'near')")
    await ends.load(stores)
    await ends.load(Table("products", key="product_id", load=Replace()))

    found = values(await exported(warehouse))

    assert found["load_last_rows read shop stores"] == 7
    assert found["load_last_rows inserted shop stores"] == 1
    assert found["load_last_rows quarantined shop stores"] == 1
    assert found["table_raw_rows shop stores"] == 6
    assert found["table_source_rows shop stores"] == 7
    assert found["table_quarantine_rows shop stores"] == 1
    assert found["table_matches shop stores"] == 1
    assert found["load_last_rows inserted shop products"] == 40
    assert found["measured_timestamp_seconds"] - found["load_last_timestamp_seconds shop stores"] < 60
    assert 0 < found["load_last_duration_seconds shop stores"] < 60
    assert found["load_last_size_bytes shop stores"] > 100


async def test_metrics_of_runs_alerts_and_circuits_are_those_of_now(warehouse: TestDatabase) -> None:
    async with desk(warehouse) as it:
        for status in ("failed", "done"):
            number = await runs.open_run(it.connection, "transform", "", None, None)
            await runs.close_run(it.connection, number, status)
        await circuits.failed(it.connection, "web", "it fails", 1, 60, 600)
        await it.found(condition(), condition("shop.stores"))

    found = values(await exported(warehouse))

    assert "run_last_timestamp_seconds transform  done" in found
    assert "run_last_timestamp_seconds transform  failed" not in found
    assert found["circuit_open web"] == 1
    assert found["alerts error firing"] == 3  # with that of the circuit
    assert found["alert_messages_waiting"] == 0
    assert 0 < found["warehouse_connections"] <= found["warehouse_connections_max"]


async def test_an_empty_warehouse_has_metrics_too(warehouse: TestDatabase) -> None:
    found = values(await exported(warehouse))
    assert found["warehouse_size_bytes"] > 0
    assert not [name for name in found if name.startswith("load_")]


def checked_by_promtool(text: str) -> tuple[int, str]:
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: package prometheus of Debian")
async def test_prometheus_accepts_names_and_units(warehouse: TestDatabase, shop: TestDatabase) -> None:
    await TwoEnds(warehouse, shop).load(Table("stores", key="store_id", load=Merge()))
    text = await exported(warehouse)
    assert checked_by_promtool(text) == (0, "")
    # The control: it does object.
    assert checked_by_promtool("# TYPE a_total gauge\na_total 1\n")[0] != 0


async def test_every_metric_that_is_exported_is_declared_with_what_it_says(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    await TwoEnds(warehouse, shop).load(Table("stores", key="store_id", load=Merge()))
    families = {family.name: family for family in text_string_to_metric_families(await exported(warehouse))}
    declared = {each.full_name.removesuffix("_total"): each for each in METRICS}
    assert set(families) <= set(declared)
    assert len(families) > 15
    for name, family in families.items():
        assert family.documentation == declared[name].meaning
        assert family.type == declared[name].type


async def test_metrics_of_use_are_those_of_the_last_load_run_and_build(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    await TwoEnds(warehouse, shop).load(Table("stores", key="store_id", load=Merge()))
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        number = await runs.open_run(connection, "ingest", "shop", None, None)
        await runs.close_run(connection, number, "done")
        for seconds in (9.0, 2.0):
            await record_usage(
                connection,
                [
                    Usage("load", "shop", "stores", "published", 1.0, seconds, 80_000_000, 6),
                    Usage("run", "shop", "ingest", "done", 3.0, 2 * seconds, 90_000_000),
                    Usage("model", "", "dim_stores", "success", seconds, rows=6),
                    Usage("model", "", "dim_broken", "error", seconds),
                ],
            )

    found = values(await exported(warehouse))

    assert found["load_last_cpu_seconds shop stores"] == 2
    assert found["load_last_memory_bytes shop stores"] == 80_000_000
    assert found["run_last_cpu_seconds ingest shop"] == 4
    assert found["model_last_duration_seconds dim_stores"] == 2
    assert found["model_last_rows dim_stores"] == 6
    assert (found["model_last_success dim_stores"], found["model_last_success dim_broken"]) == (1, 0)
    assert "model_last_rows dim_broken" not in found
