"""SIGKILL at every failpoint of every kind of load, with all six invariants after each."""

import signal
from collections.abc import Sequence

import pytest

from flows.failures.failpoints import FAILPOINTS
from tests.conftest import TestDatabase
from tests.kinds.conformance import forking
from tests.kinds.loading import addresses
from tests.kinds.postgres import invariants
from tests.kinds.postgres.invariants import at_rest, six_invariants
from tests.kinds.postgres.killable import CREATE, KINDS, SOURCE, load
from tests.nightly import nightly
from tests.publish.two_ends import TwoEnds

# Reads this small are not cut; tests/kinds/postgres/test_chunks.py visits what only chunks pass.
PASSED = [name for name in FAILPOINTS if "chunk" not in name and "slice" not in name]
# Where kinds of loads differ: from the end of staging to the commit. The others every kind of source meets with every
# change in the conformance suite, in merging loads.
TRIED = ("after_check", "in_publish_after_rows", "after_commit")
# Which differ from one above in where they read, not in how they are published.
VARIANTS = ("append without key", "reload", "overwrite without key", "overwrite by cursor")


@pytest.mark.parametrize("failpoints", [TRIED, *nightly(PASSED)], ids=["where kinds differ", "anywhere"])
@pytest.mark.parametrize("kind", [*(kind for kind in KINDS if kind not in VARIANTS), *nightly(*VARIANTS)])
async def test_a_load_of_any_kind_killed_anywhere_is_whole_when_run_again(
    warehouse: TestDatabase, shop: TestDatabase, kind: str, failpoints: Sequence[str]
) -> None:
    """First and merging loads stand in tests/kinds/postgres/test_killed_loads.py."""
    ends, (name, change) = TwoEnds(warehouse, shop), KINDS[kind]
    ends.source(CREATE)
    await invariants.load(ends, SOURCE, name)

    async with six_invariants(ends, SOURCE, name):
        for number, failpoint in enumerate(failpoints):
            ends.source(change.format(table=name, n=number))
            variables = {**addresses(warehouse, shop), "MEDALLION_FAILPOINT": failpoint}
            killed = forking.run("tests.kinds.postgres.killable", [kind], variables)
            assert killed.returncode == -signal.SIGKILL, f"{failpoint}: {killed.stderr}"
            await load(kind, ends.warehouse_address, ends.shop_address)
            at_rest(ends, SOURCE, SOURCE.table(name))

    paths = {path for (path,) in ends.raw("select strategy from ops.loads where status = 'published' group by 1")}
    assert kind.split()[0] in paths, "the load was not of the kind that was to be killed"


OVERWRITES = [kind for kind in KINDS if kind.startswith("overwrite")]


@pytest.mark.parametrize("failpoint", [*TRIED, *nightly(*(name for name in PASSED if name not in TRIED))])
async def test_a_first_load_of_partitions_killed_anywhere_is_whole_when_run_again(
    warehouse: TestDatabase, shop: TestDatabase, failpoint: str
) -> None:
    """It reads more than partitions: everything. The next loads then leave alone what they do not overwrite."""
    ends, tables = TwoEnds(warehouse, shop), [KINDS[kind][0] for kind in OVERWRITES]
    ends.source(CREATE)

    async with six_invariants(ends, SOURCE, *tables):
        for kind in OVERWRITES:
            variables = {**addresses(warehouse, shop), "MEDALLION_FAILPOINT": failpoint}
            killed = forking.run("tests.kinds.postgres.killable", [kind], variables)
            assert killed.returncode == -signal.SIGKILL, f"{kind}: {killed.stderr}"
            there = ends.raw("select to_regclass(%s) is not null", [f"raw_shop.{KINDS[kind][0]}"])
            assert there == [(failpoint == "after_commit",)], kind
            ends.source(KINDS[kind][1].format(table=KINDS[kind][0], n=0))

    first = ends.raw("select table_name from ops.loads where strategy = 'initial' and status = 'published' order by 1")
    assert first == sorted((table,) for table in tables)
