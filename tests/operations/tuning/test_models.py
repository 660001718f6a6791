"""A model that is built in full although little of it changes is recommended to be incremental."""

import gzip
import json
from datetime import date, timedelta

import pytest

from flows.access.addresses import connect
from flows.operations.tuning.advise import Scope, advise
from flows.operations.tuning.applying import apply
from flows.operations.tuning.evaluating import evaluate
from flows.operations.tuning.recommendation import Recommendation
from flows.state.tunings import tunings
from tests.operations.tuning.tuned import HOUR, NOW, Tuned

TODAY = NOW.date()


def built(ends: Tuned, seconds: float, *, until: date = TODAY, days: int = 14, rows: int = 500_000) -> None:
    """Fourteen days of two builds each."""
    for number in range(days):
        ends.raw(
            "insert into ops.usage_days (day, kind, scope, name, times, seconds, rows, bytes) "
            "values (%s, 'model', '', 'basket', 2, %s, %s, 0)",
            [until - timedelta(days=number), 2 * seconds, 2 * rows],
        )


def projected(ends: Tuned, materialized: str = "table") -> None:
    """The newest full build: silver.basket, made of raw_shop.baskets."""
    model = {
        "unique_id": "model.m.basket",
        "name": "basket",
        "resource_type": "model",
        "schema": "silver",
        "fqn": ["m", "silver", "basket"],
        "original_file_path": "models/silver/basket.sql",
        "depends_on": {"nodes": ["source.m.shop.baskets"]},
        "config": {"materialized": materialized, "indexes": [{"columns": ["basket_id"], "unique": True}]},
    }
    raw = {"unique_id": "source.m.shop.baskets", "name": "baskets", "identifier": "baskets", "resource_type": "source",
           "schema": "raw_shop"}  # fmt: skip
    manifest = {"nodes": {"model.m.basket": model}, "sources": {"source.m.shop.baskets": raw}}
    ((run,),) = ends.raw("insert into ops.runs (pipeline, status) values ('transform', 'done') returning run_id")
    ends.raw("insert into ops.dbt_manifests values (%s, %s)", [run, gzip.compress(json.dumps(manifest).encode())])


async def recommended(ends: Tuned) -> list[Recommendation]:
    async with connect(ends.warehouse_address, side="warehouse") as connection:
        found = await advise(connection, [], NOW, 30, Scope(model="basket"))
        return list(found.recommendations)


async def test_a_model_of_which_little_changes_is_built_incrementally_and_measured(empty: Tuned) -> None:
    empty.ledger("baskets", 100, rows=500, changed=500)
    built(empty, 60)
    projected(empty)
    (found,) = await recommended(empty)
    assert (found.id, found.effort, found.runs) == ("basket/incremental", "high", 28)
    assert "+        materialized='incremental'," in found.change
    assert "+        unique_key='basket_id'," in found.change
    assert "12,000 rows change a day" in found.basis
    async with connect(empty.warehouse_address, side="warehouse") as connection:
        await apply(connection, found, "night-shift", NOW)
        await evaluate(connection, [], NOW + HOUR)
        assert [each.state for each in await tunings(connection)] == ["accepted"]
        projected(empty, "incremental")
        await evaluate(connection, [], NOW + HOUR)
        built(empty, 5, until=TODAY + timedelta(days=14))
        await evaluate(connection, [], NOW + timedelta(days=15))
        (tuning,) = await tunings(connection)
    assert (tuning.verdict, tuning.subject) == ("helped", "basket")


@pytest.mark.parametrize(
    "otherwise", ["incremental already", "a quarter of it changes", "it is small", "no loads are known"]
)
async def test_a_model_is_left_as_it_is(empty: Tuned, otherwise: str) -> None:
    if otherwise != "no loads are known":
        changed = {"a quarter of it changes": 5_000, "it is small": 1}.get(otherwise, 500)
        empty.ledger("baskets", 100, rows=50_000, changed=changed)
    built(empty, 60, rows=5_000 if otherwise == "it is small" else 500_000)
    projected(empty, "incremental" if otherwise == "incremental already" else "table")
    assert await recommended(empty) == []
