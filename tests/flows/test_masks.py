"""Masked columns in a run: what Prefect's server, the results and the terminal hold of them."""

from dataclasses import replace
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from flows.declare import Hashed, Masked
from flows.declare.mask import Mask
from flows.ingest import ingest
from flows.sources.shop import shop as declared_shop
from flows.values.settings import settings
from tests.conftest import PREFECT_OF_THE_RUN
from tests.flows.conftest import Ends
from tests.flows.prefect_facts import artifacts, flow_run, flow_run_id, logs_of, task_runs
from tests.kinds.everywhere import tables_with
from tests.kinds.loading import change, rows

MARK = "zqmasked"


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "the control"])
async def test_no_value_behind_a_mask_reaches_prefect(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, masked: bool
) -> None:
    table = declared_shop.table("households")
    masks: dict[str, Mask] = {"email": Hashed(), "full_name": Masked(), "phone": Masked(keep=2)} if masked else {}
    declared = replace(declared_shop, tables=[replace(table, masked=masks)])
    monkeypatch.setattr("flows.verbs.find.SOURCES", (declared,))
    monkeypatch.setenv("MEDALLION_MASK_KEY", "a key for hashes in tests, of 40 characters")
    settings.cache_clear()
    change(ends.shop, f"update households set email = '{MARK}@example.com', full_name = '{MARK}', updated_at = now()")

    state: State[Any] = await ingest("shop", ["households"], return_state=True)

    loaded = await state.aresult()
    assert loaded[0]["counts"]["rows_inserted"] == 60
    told = [repr(loaded), repr(task_runs(state, 1)), repr(flow_run(state)), repr(artifacts(state))]
    told.append(logs_of(flow_run_id(state)))
    assert [text for text in told if MARK in text] == []
    assert (tables_with(ends.warehouse, MARK) == []) is masked
    if masked:
        prefect = replace(ends.warehouse, name=PREFECT_OF_THE_RUN)
        assert "artifact" in tables_with(prefect, "shop.households"), "the control: Prefect's database is searched"
        assert tables_with(prefect, MARK) == []
        assert len(rows(ends.warehouse, "select distinct email from raw_shop.households")) == 1
