"""SIGKILL at every step of a load: running it again gives what an undisturbed run gives."""

import signal
from collections.abc import Iterator

import pytest

from flows.failures.failpoints import FAILPOINTS
from flows.sources.shop import shop as declared_shop
from tests.conftest import TestCluster, TestDatabase, fresh_warehouse
from tests.kinds.loading import (
    CHANGES,
    change,
    cursor,
    load,
    load_in_a_process,
    loads,
    open_quarantine,
    raw_content,
    raw_rows,
    rows,
)
from tests.kinds.postgres.invariants import six_invariants
from tests.nightly import nightly
from tests.publish.two_ends import TwoEnds

# Reads this small are not cut; tests/kinds/postgres/test_chunks.py visits what only chunks pass.
PASSED = [name for name in FAILPOINTS if "chunk" not in name and "slice" not in name]
# Where a load opens, stages and publishes. Each of the others is met with every change in the kinds' conformance suite.
TRIED = ("after_load_opened", "after_copy", "in_publish_after_rows", "after_commit")
DEATHS = [*TRIED, *nightly(*(name for name in PASSED if name not in TRIED))]
PUBLISHED = ("after_commit",)
BROKEN_BASKET = "update baskets set sold_at = 'infinity' where basket_id = 31000007"


@pytest.fixture
def undisturbed(cluster: TestCluster) -> Iterator[TestDatabase]:
    """A second warehouse that is loaded from the same shop and never killed."""
    with fresh_warehouse(cluster) as database:
        yield database


@pytest.mark.parametrize("failpoint", DEATHS)
async def test_a_first_load_killed_anywhere_gives_the_same_raw_when_run_again(
    warehouse: TestDatabase, undisturbed: TestDatabase, shop: TestDatabase, failpoint: str
) -> None:
    change(shop, BROKEN_BASKET)
    await load(undisturbed, shop, "baskets")

    async with six_invariants(TwoEnds(warehouse, shop), declared_shop, "baskets"):
        killed = load_in_a_process(warehouse, shop, "baskets", MEDALLION_FAILPOINT=failpoint)

        assert killed.returncode == -signal.SIGKILL, killed.stderr
        published = rows(warehouse, "select to_regclass('raw_shop.baskets') is not null as there")[0]["there"]
        assert published == (failpoint in PUBLISHED)
        assert (cursor(warehouse, "baskets") is not None) == published
    assert raw_content(warehouse, "baskets") == raw_content(undisturbed, "baskets")
    assert open_quarantine(warehouse) == open_quarantine(undisturbed) != []


@pytest.mark.parametrize("failpoint", DEATHS)
async def test_a_later_load_killed_anywhere_gives_the_same_raw_when_run_again(
    warehouse: TestDatabase, undisturbed: TestDatabase, shop: TestDatabase, failpoint: str
) -> None:
    """With changed, new, deleted and broken rows in it."""
    await load(warehouse, shop, "basket_items")
    await load(undisturbed, shop, "basket_items")
    change(shop, *CHANGES)
    before, since = raw_rows(warehouse, "basket_items"), cursor(warehouse, "basket_items")
    await load(undisturbed, shop, "basket_items")

    async with six_invariants(TwoEnds(warehouse, shop), declared_shop, "basket_items"):
        killed = load_in_a_process(warehouse, shop, "basket_items", MEDALLION_FAILPOINT=failpoint)

        assert killed.returncode == -signal.SIGKILL, killed.stderr
        published = failpoint in PUBLISHED
        assert (raw_rows(warehouse, "basket_items") != before) == published
        assert (cursor(warehouse, "basket_items") != since) == published
        assert (open_quarantine(warehouse) != []) == published
        again = await load(warehouse, shop, "basket_items")
        assert again.counts.changed == (0 if published else 150 + 60 + 150)
    assert raw_content(warehouse, "basket_items") == raw_content(undisturbed, "basket_items")
    assert open_quarantine(warehouse) == open_quarantine(undisturbed)


async def test_the_load_that_died_is_closed_by_the_next_one(warehouse: TestDatabase, shop: TestDatabase) -> None:
    load_in_a_process(warehouse, shop, "stores", MEDALLION_FAILPOINT="after_copy")
    assert [entry["status"] for entry in loads(warehouse)] == ["running"]

    await load(warehouse, shop, "stores")

    dead, alive = loads(warehouse)
    assert (dead["status"], dead["error"]) == ("failed", "the process ended without a word")
    assert (alive["status"], alive["rows_read"]) == ("published", 5)
