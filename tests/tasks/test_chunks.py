"""Large tables read by a Dask cluster: two real workers, processes of their own."""

from collections.abc import Iterator
from typing import Any

import pytest

from flows.ingest import ingest
from flows.values.errors import ConfigurationError
from flows.values.settings import settings
from tests.flows.conftest import Ends
from tests.flows.prefect_facts import task_runs
from tests.kinds.loading import rows


@pytest.fixture
def sized(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> Ends:
    """Every table of the small shop is large, and read in chunks of some kilobytes by two readers."""
    for name in ("MEDIUM_LOAD_MB", "LARGE_LOAD_MB"):
        monkeypatch.setenv(f"MEDALLION_{name}", "0.001")
    monkeypatch.setenv("MEDALLION_CHUNK_MIN_MB", "0.002")
    monkeypatch.setenv("MEDALLION_CHUNK_MAX_MB", "0.01")
    monkeypatch.setenv("MEDALLION_LOAD_READERS", "2")
    settings.cache_clear()
    return ends


@pytest.fixture
def scheduler(sized: Ends) -> Iterator[str]:
    """The address of a cluster whose workers have this test's environment."""
    from distributed import LocalCluster  # takes half a second, and the others here would wait for it

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


@pytest.mark.long
async def test_a_large_table_is_read_by_the_workers_of_a_dask_cluster(
    sized: Ends, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_DASK_SCHEDULER", scheduler)
    settings.cache_clear()

    state: Any = await ingest("shop", ["basket_items"], return_state=True)

    (load,) = await state.aresult()
    read = rows(sized.warehouse, "select worker, rows from ops.chunks")
    assert (load["volume"], load["counts"]["reconciliation"], load["counts"]["rows_inserted"]) == (
        "large",
        "match",
        450,
    )
    assert load["chunks"] == len(read) > 2
    assert len({chunk["worker"] for chunk in read}) == 2
    assert sum(chunk["rows"] for chunk in read) == 450
    names = {run.name for run in task_runs(state, 1 + len(read))}
    assert {name for name in names if name.startswith("read shop.basket_items 0 to ")}


async def test_a_scheduler_that_does_not_answer_is_told_with_the_variable_to_correct(
    sized: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_DASK_SCHEDULER", "tcp://127.0.0.1:1")
    monkeypatch.setenv("MEDALLION_CONNECT_TIMEOUT_SECONDS", "1")
    settings.cache_clear()

    state: Any = await ingest("shop", ["stores"], return_state=True)

    with pytest.raises(ConfigurationError, match="the Dask scheduler does not respond"):
        await state.aresult()
