"""The churn model on a year of made-up shopping: what it may know, when it is refused, how it is kept."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

import asyncpg
import numpy as np
import pytest

from flows.scoring.churn import CHURN, FEATURES, Trained, read_examples, refuse_below, train, training_cutoffs
from flows.scoring.registry import Version, register
from flows.values.errors import DataRefused, WarehouseError
from tests.conftest import TestCluster, TestDatabase, copy_of, fresh_warehouse
from tests.kinds.loading import rows
from tests.scoring.small_gold import fill_gold, run

LAST = date(2017, 12, 31)
HOLDOUT = date(2017, 12, 3)


@pytest.fixture(scope="module")
def filled(cluster: TestCluster) -> Iterator[TestDatabase]:
    """Gold of households with habits; tests that write take a copy."""
    with fresh_warehouse(cluster) as warehouse:
        fill_gold(warehouse)
        yield warehouse


async def trained_on(warehouse: TestDatabase) -> Trained:
    connection = await asyncpg.connect(warehouse.url("transformer"))
    try:
        return await train(connection)
    finally:
        await connection.close()


async def registered(warehouse: TestDatabase, trained: Trained, status: str = "published") -> Version:
    connection = await asyncpg.connect(warehouse.url("transformer"))
    try:
        return await register(connection, CHURN, trained, status)
    finally:
        await connection.close()


async def test_a_model_with_something_to_learn_beats_guessing_and_recency(filled: TestDatabase) -> None:
    trained = await trained_on(filled)
    metrics = trained.metrics
    assert (trained.as_of, trained.holdout) == (LAST, HOLDOUT)
    assert metrics["auc"] > max(0.85, metrics["auc_of_recency_alone"])
    assert metrics["log_loss"] < metrics["log_loss_of_base_rate"]
    assert metrics["calibration_error"] < 0.08
    assert refuse_below(trained) is None
    assert set(trained.parameters["weights"]) == set(FEATURES)
    assert 7 not in trained.households
    assert sorted(set(trained.deciles)) == list(range(1, 11))
    riskiest = [score for score, decile in zip(trained.scores, trained.deciles, strict=True) if decile == 1]
    assert min(riskiest) >= max(s for s, decile in zip(trained.scores, trained.deciles, strict=True) if decile == 2)


async def test_what_happens_after_a_day_changes_nothing_that_was_known_on_it(filled: TestDatabase) -> None:
    """Whoever adds a feature that peeks past its cutoff makes the holdout lie. Only the labels may change."""
    with copy_of(filled) as warehouse:
        connection = await asyncpg.connect(warehouse.url("transformer"))
        try:
            before = await read_examples(connection, [HOLDOUT], CHURN)
            await connection.execute("delete from gold.fct_basket_lines where sold_on > $1", HOLDOUT)
            after = await read_examples(connection, [HOLDOUT], CHURN)
        finally:
            await connection.close()
    assert before.households == after.households
    assert np.array_equal(before.features, after.features)
    assert after.labels.all()
    assert 0 < before.labels.mean() < 0.5


def test_the_windows_of_training_end_where_the_holdout_begins() -> None:
    cutoffs = training_cutoffs(date(2017, 1, 1), LAST, CHURN)
    window = timedelta(days=CHURN.window_days)
    assert max(cutoffs) + window == HOLDOUT
    assert min(cutoffs) - timedelta(days=CHURN.lately_days) >= date(2017, 1, 1)
    assert len(cutoffs) == 8


async def test_a_model_no_better_than_dice_is_refused(warehouse: TestDatabase) -> None:
    fill_gold(warehouse, with_habits=False)
    trained = await trained_on(warehouse)
    refusal = refuse_below(trained)
    assert isinstance(refusal, DataRefused)
    assert "0.70 is the least" in refusal.what


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("delete from gold.fct_basket_lines where sold_on > '2017-05-31'", "less than 168 days"),
        ("truncate gold.fct_basket_lines", "less than 168 days"),
        (
            "delete from gold.fct_basket_lines where household_key in "
            "(select household_key from gold.dim_household where household_id > 100)",
            "households, of which",
        ),
    ],
)
async def test_too_little_to_learn_from_is_said(filled: TestDatabase, statement: str, what: str) -> None:
    with copy_of(filled) as warehouse:
        run(warehouse, statement)
        with pytest.raises(DataRefused, match=what):
            await trained_on(warehouse)


async def test_without_gold_the_next_move_is_a_transform(warehouse: TestDatabase) -> None:
    with pytest.raises(WarehouseError) as caught:
        await trained_on(warehouse)
    assert "medallion transform" in caught.value.fix


async def test_a_day_that_is_not_over_is_not_learned_from(filled: TestDatabase) -> None:
    """Else who buys in its evening would have stayed away. The same day, once it is complete, moves the windows."""
    with copy_of(filled) as warehouse:
        before = await trained_on(warehouse)
        run(warehouse, "insert into gold.fct_basket_lines select household_key, 1, '2018-01-02', 5, 5 "
            "from gold.dim_household where household_id = 1")  # fmt: skip
        during = await trained_on(warehouse)
        assert (during.as_of, during.fingerprint) == (before.as_of, before.fingerprint)
        run(warehouse, "create or replace view gold.agg_daily_sales as "
            "select distinct sold_on, true as is_complete from gold.fct_basket_lines")  # fmt: skip
        assert (await trained_on(warehouse)).as_of == date(2018, 1, 2)


async def test_versions_and_scores_are_written_together_and_the_same_only_once(filled: TestDatabase) -> None:
    with copy_of(filled) as warehouse:
        trained = await trained_on(warehouse)
        first, again = await registered(warehouse, trained), await registered(warehouse, await trained_on(warehouse))
        assert (first, again) == (Version(1, "published", True), Version(1, "published", False))
        held = "select count(*) as scores, count(distinct household_id) as households from ml.customer_scores"
        assert rows(warehouse, held) == [{"scores": len(trained.scores), "households": len(trained.households)}]

        twice = replace(trained, fingerprint="another", households=(1, *trained.households[:-2], 1))
        with pytest.raises(asyncpg.UniqueViolationError):
            await registered(warehouse, twice)
        assert rows(warehouse, "select version from ml.model_versions") == [{"version": 1}]

        refused = replace(trained, fingerprint="worse")
        assert await registered(warehouse, refused, "refused") == Version(2, "refused", True)
        run(warehouse, "insert into gold.fct_basket_lines select household_key, 1, '2018-01-01', 5, 5 "
            "from gold.dim_household where household_id = 1")  # fmt: skip
        assert await registered(warehouse, await trained_on(warehouse)) == Version(3, "published", True)
        versions = rows(warehouse, "select version, count(*) from ml.customer_scores group by 1 order by 1")
        assert [row["version"] for row in versions] == [1, 3]
