"""SIGKILL at every step of a load of a dlt resource: no record lost or doubled, and a state that fits raw."""

import signal
from collections.abc import Mapping

import pytest

pytest.importorskip("dlt", reason="the extra `dlt` is not installed")

from flows.failures.failpoints import FAILPOINTS
from tests.conftest import TestDatabase
from tests.kinds.conformance import forking
from tests.kinds.dlt.loading import RecordsFile, file
from tests.kinds.dlt.sources import at
from tests.kinds.loading import landing_tables, loads, rows

pytestmark = pytest.mark.xdist_group("dlt")

__all__ = ["file"]  # a fixture

# A resource is read in one piece.
PASSED = [name for name in FAILPOINTS if "chunk" not in name and "slice" not in name]
PUBLISHED = ("after_commit",)
#: The others, every night: `killed_anywhere_it_heals` of tests/kinds/conformance passes each of them with every change.
EACH_CHANGE = ("after_copy", "in_publish_before_commit", "after_commit")


def load(variables: Mapping[str, str]) -> int:
    """One load in a process that may die; returns how it ended."""
    return forking.run("tests.kinds.dlt.one_load", [], variables).returncode


def held(warehouse: TestDatabase) -> tuple[list[int], int, str | None]:
    """The ids of the log in raw, how often its resource remembers to have been read, and its cursor in the state."""
    if not rows(warehouse, "select to_regclass('raw_logbook.entries') is not null as there")[0]["there"]:
        assert rows(warehouse, "select * from ops.dlt_states") == []
        return [], 0, None
    ids = [row["id"] for row in rows(warehouse, "select (payload ->> 'id')::int as id from raw_logbook.entries")]
    (row,) = rows(warehouse, "select state #> '{logbook,resources,entries}' as state from ops.dlt_states")
    return sorted(ids), row["state"]["reads"], row["state"]["incremental"]["changed_at"]["last_value"]


@pytest.mark.parametrize(
    ("failpoint", "first"),
    [
        *(pytest.param(name, False, marks=[] if name in EACH_CHANGE else pytest.mark.long) for name in PASSED),
        ("after_copy", True),
        pytest.param("in_publish_before_commit", True, marks=pytest.mark.long),
    ],
)
def test_a_load_killed_anywhere_loses_and_doubles_nothing_when_run_again(
    warehouse: TestDatabase, file: RecordsFile, failpoint: str, first: bool
) -> None:
    """dlt writes its state after its rows: killed between the two, it yields the same records to an append again."""
    addresses = {"MEDALLION_WAREHOUSE_URL": warehouse.url("loader"), "DLT_TEST_RECORDS": str(file.path)}
    quietly, deadly = addresses | {"MEDALLION_FAILPOINT": ""}, addresses | {"MEDALLION_FAILPOINT": failpoint}
    log = [{"id": n, "changed_at": at(n)} for n in range(5)]
    before: tuple[list[int], int, str | None] = ([], 0, None)
    if not first:
        file.hold(*log[:2])
        assert load(quietly) == 0
        before = held(warehouse)
    file.hold(*log)

    assert load(deadly) == -signal.SIGKILL

    whole = (list(range(5)), before[1] + 1, at(4))
    published = failpoint in PUBLISHED
    assert held(warehouse) == (whole if published else before)
    assert load(quietly) == 0
    assert held(warehouse) == (whole[0], whole[1] + published, whole[2])
    assert landing_tables(warehouse) == []
    assert loads(warehouse)[-1]["rows_read"] == (0 if published else 5 - len(before[0]))
