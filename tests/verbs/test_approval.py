"""Work that an environment has approved waits for a person, and is done for exactly the plan that was accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from flows.access.addresses import connect
from flows.declare import Approval, Merge, Sequence
from flows.kinds.postgres import Database, Table
from flows.models.compare import Difference
from flows.models.release_changes import GoldChange, question_about
from flows.sources import approvals
from flows.state import decisions
from flows.state.decisions import Origin
from flows.state.reconciliations import Reconciliation
from flows.values.errors import DataRefused, DecisionNeeded
from flows.values.question import Question
from flows.values.settings import settings
from flows.verbs.approval import require
from flows.verbs.compare import compare_table
from tests.conftest import TestDatabase
from tests.publish.two_ends import TwoEnds

ITEMS = Table("facts", key="fact_id", cursor=Sequence("fact_id"), load=Merge())
DELETING = Table("facts", key="fact_id", load=Merge(), deletes=True, max_deleted=0.1)


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoEnds]:
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", warehouse.url("loader"))
    monkeypatch.setenv("MEDALLION_ENVIRONMENT", "production")
    settings.cache_clear()
    declared = (Approval("production", ("release", "repair", "deletes")), Approval("staging", ("release",)))
    monkeypatch.setattr(approvals, "APPROVALS", declared)
    two = TwoEnds(warehouse, shop)
    two.source(
        "create table facts as select n as fact_id, 0 as amount from generate_series(1, 1000) as n; "
        "alter table facts add primary key (fact_id); grant select on facts to medallion_extractor"
    )
    yield two
    settings.cache_clear()


async def repair(ends: TwoEnds) -> Reconciliation:
    source = Database("shop", connection="shop", tables=[ITEMS])
    return await compare_table(ends.warehouse_address, ends.shop_address, source, ITEMS, repair=True)


async def answer(ends: TwoEnds, number: int, *, accept: bool = True) -> None:
    async with connect(ends.warehouse_address, side="warehouse") as warehouse:
        assert await decisions.answer(warehouse, number, accept=accept, by="anna", reason="seen")


async def asked(ends: TwoEnds) -> int:
    with pytest.raises(DecisionNeeded) as problem:
        await repair(ends)
    return int(problem.value.__dict__["decision"])


def changed(ends: TwoEnds) -> int:
    return int(ends.raw("select count(*) from raw_shop.facts where amount = 1")[0][0])


async def test_a_repair_waits_for_a_yes_to_what_was_shown_and_is_done_once(ends: TwoEnds) -> None:
    await ends.load(ITEMS)
    ends.source("update facts set amount = 1 where fact_id <= 20")
    number = await asked(ends)
    assert changed(ends) == 0
    assert ends.raw("select what from ops.alerts where name = 'decision needed'")[0][0].startswith(
        "a repair would read 20 keys again: 20 different"
    )

    await answer(ends, number)
    assert (await repair(ends)).result == "match"

    assert changed(ends) == 20
    ends.source("update facts set amount = 2 where fact_id <= 20")
    assert await asked(ends) > number


async def test_a_repair_of_more_than_was_accepted_is_asked_again(ends: TwoEnds) -> None:
    await ends.load(ITEMS)
    ends.source("update facts set amount = 1 where fact_id <= 20")
    number = await asked(ends)
    await answer(ends, number)
    ends.source("update facts set amount = 1 where fact_id <= 21")

    assert await asked(ends) > number

    assert changed(ends) == 0


async def test_a_refused_repair_is_not_done(ends: TwoEnds) -> None:
    await ends.load(ITEMS)
    ends.source("update facts set amount = 1 where fact_id <= 20")
    await answer(ends, await asked(ends), accept=False)
    with pytest.raises(DataRefused, match="anna refused it"):
        await repair(ends)
    assert changed(ends) == 0


async def test_another_environment_needs_no_approval(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDALLION_ENVIRONMENT", "staging")
    settings.cache_clear()
    await ends.load(ITEMS)
    ends.source("update facts set amount = 1 where fact_id <= 20")
    assert (await repair(ends)).result == "match"


async def test_more_deletes_than_declared_are_asked_about_where_deletes_are_approved(ends: TwoEnds) -> None:
    await ends.load(DELETING)
    ends.source("delete from facts where fact_id <= 300")
    with pytest.raises(DecisionNeeded) as problem:
        await ends.load(DELETING)
    await answer(ends, problem.value.__dict__["decision"])
    assert (await ends.load(DELETING)).counts.rows_deleted == 300


def change(name: str = "mart", *, gone: int = 0, column: str = "") -> GoldChange:
    removed = ((column, "text"),) if column else ()
    return GoldChange(name, Difference(10, 10 - gone, columns_removed=removed))


@pytest.mark.parametrize(
    ("models", "later"),
    [
        ("m2", [change(gone=3)]),
        ("m1", [change(gone=4)]),
        ("m1", [change(gone=3), change("other", gone=1)]),
        ("m1", [change(gone=3, column="note")]),
    ],
)
async def test_a_release_of_other_models_or_with_more_loss_needs_another_yes(
    ends: TwoEnds, models: str, later: list[GoldChange]
) -> None:
    """The release calls `require` between its comparison with gold and the swap."""
    ends.raw("select 1")
    question, what = question_about("m1", [change(gone=3)])
    with pytest.raises(DecisionNeeded) as first:
        await require("release", question, what, Origin("release"))
    await answer(ends, first.value.__dict__["decision"])
    assert await require("release", question, what, Origin("release")) == first.value.__dict__["decision"]

    with pytest.raises(DecisionNeeded) as second:
        await require("release", *question_about(models, later), Origin("release"))

    assert second.value.__dict__["decision"] > first.value.__dict__["decision"]


async def test_two_runs_that_ask_at_once_ask_one_question(ends: TwoEnds) -> None:
    async def ask() -> int:
        with pytest.raises(DecisionNeeded) as problem:
            await require("release", Question("release", {"models": "m"}), "a release", Origin("release"))
        return int(problem.value.__dict__["decision"])

    assert len(set(await asyncio.gather(*(ask() for _ in range(4))))) == 1
