"""More tables in parallel, and another start, are recommended from runs; one long table or equal runs say otherwise."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from flows.kinds.postgres import Database
from flows.operations.tuning.concurrency import Run, more_parallel, off_peak
from tests.operations.ledger import table

BEGAN = datetime(2026, 6, 1, 0, 15, tzinfo=UTC)
SHOP = Database(
    "shop", connection="shop", tables=[table(f"t{n}") for n in range(8)], max_parallel=2, schedule="15 * * * *"
)


def runs(
    loads: Sequence[float], seconds: float, *, count: int = 10, scope: str = "shop", offset: float = 0
) -> list[Run]:
    """One an hour."""
    starts = [BEGAN + timedelta(hours=number, seconds=offset) for number in range(count)]
    return [Run("ingest", scope, at, at.timestamp(), at.timestamp() + seconds, loads) for at in starts]


def test_tables_that_wait_for_each_other_are_loaded_in_parallel() -> None:
    found = more_parallel(SHOP, runs([10] * 8, 42), free_connections=50)
    assert found is not None
    assert found.what == "load 4 tables in parallel in place of 2"
    assert "+    max_parallel=4," in found.change
    assert found.gain == pytest.approx((40 - 20) * 10)


@pytest.mark.parametrize(
    ("loads", "seconds", "free"),
    [([70, 5, 5, 5], 72, 50), ([10] * 8, 42, 6), ([10] * 2, 12, 50), ([10] * 8, 120, 50)],
    ids=[
        "one long table decides",
        "the source accepts no more sessions",
        "all run at once",
        "something else takes long",
    ],
)
def test_more_in_parallel_is_not_recommended_where_it_would_not_help(
    loads: list[float], seconds: float, free: int
) -> None:
    found = more_parallel(SHOP, runs(loads, seconds), free)
    assert found is None or found.gain < 10


def beside(seconds: float) -> list[Run]:
    """Ten runs beside another source's, and ten alone."""
    own = runs([10], seconds, count=10) + [
        Run("ingest", "shop", at, at.timestamp(), at.timestamp() + 30, [10])
        for at in (BEGAN + timedelta(hours=10 + number) for number in range(10))
    ]
    return sorted([*own, *runs([1], 300, scope="erp", offset=-60)], key=lambda run: run.began)


def test_a_start_when_less_runs_is_recommended_if_runs_beside_others_take_longer() -> None:
    found = off_peak(SHOP, beside(90))
    assert found is not None
    assert '-    schedule="15 * * * *",' in found.change
    minute = int(found.expected["declared"].split()[0])
    assert not 14 <= minute <= 19, "that is when the other source runs"
    assert found.basis == "10 runs beside others, 10 alone"


def test_the_start_stays_if_runs_beside_others_take_no_longer() -> None:
    assert off_peak(SHOP, beside(31)) is None
    assert off_peak(SHOP, runs([10], 90)) is None, "never alone, never beside others: nothing to compare"
