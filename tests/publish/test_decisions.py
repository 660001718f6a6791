"""A load that would be refused asks a person, and goes on once, for exactly what was shown."""

from __future__ import annotations

import pytest

from flows.access.addresses import connect
from flows.declare import Append, Ask, Merge, Overwrite, Replace, Rule, Sequence
from flows.kinds.postgres import Table
from flows.state import decisions
from flows.state.decisions import Decision
from flows.values.errors import DataRefused, DecisionNeeded, DeclarationError, MedallionError
from flows.values.question import Question
from tests.conftest import TestDatabase
from tests.publish.two_ends import TwoEnds


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    ends = TwoEnds(warehouse, shop)
    ends.source(
        "create table facts as select n as fact_id, n % 10 as amount, date '2026-01-01' + n / 200 as day "
        "from generate_series(1, 1000) as n"
    )
    ends.source("alter table facts add primary key (fact_id)")
    ends.source("grant select on facts to medallion_extractor")
    return ends


def facts(**declared: object) -> Table:
    given: dict[str, object] = {"key": "fact_id", "load": Merge(), "on_refusal": Ask(), "deletes": True}
    return Table("facts", **{**given, "max_deleted": 0.1, **declared})  # type: ignore[arg-type]


async def asked(ends: TwoEnds, table: Table) -> int:
    """Load the table, which asks; the number of the question."""
    with pytest.raises(DecisionNeeded) as problem:
        await ends.load(table)
    return int(problem.value.__dict__["decision"])


async def answer(ends: TwoEnds, number: int, *, accept: bool = True, by: str = "anna", reason: str = "moved") -> bool:
    async with connect(ends.warehouse_address, side="warehouse") as warehouse:
        return await decisions.answer(warehouse, number, accept=accept, by=by, reason=reason)


async def found(ends: TwoEnds) -> list[Decision]:
    async with connect(ends.warehouse_address, side="warehouse") as warehouse:
        return await decisions.find(warehouse, "true")


def raw(ends: TwoEnds) -> int:
    return int(ends.raw("select count(*) from raw_shop.facts where _deleted_at is null")[0][0])


def alerts(ends: TwoEnds) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in ends.raw("select name, subject from ops.alerts where resolved_at is null")]


async def test_more_deletes_than_declared_wait_for_a_person_and_happen_after_the_yes(ends: TwoEnds) -> None:
    await ends.load(facts())
    ends.source("delete from facts where fact_id <= 300")

    number = await asked(ends, facts())

    assert raw(ends) == 1000
    assert alerts(ends) == [("decision needed", "shop.facts")]
    (question,) = await found(ends)
    assert (question.kind, question.status) == ("deletes", "open")
    keys = question.plan["exact"].pop("keys")
    assert len(keys) == 16
    assert question.plan == {"counts": {"deleted": 300}, "exact": {"allowed share": 0.1}}

    assert await answer(ends, number)
    assert alerts(ends) == []
    result = await ends.load(facts())

    assert (result.counts.rows_deleted, raw(ends)) == (300, 700)
    (used,) = await found(ends)
    assert (used.answered_by, used.reason, used.used_by_batch) == ("anna", "moved", result.batch_id)


async def test_an_answer_is_good_once(ends: TwoEnds) -> None:
    await ends.load(facts())
    ends.source("delete from facts where fact_id <= 300")
    await answer(ends, await asked(ends, facts()))
    await ends.load(facts())
    ends.source("delete from facts where fact_id <= 500")

    second = await asked(ends, facts())

    assert [one.decision_id for one in await found(ends)][-1] == second
    assert raw(ends) == 700


@pytest.mark.parametrize("when", ["before the answer", "after it"])
async def test_more_than_was_shown_is_asked_again(ends: TwoEnds, when: str) -> None:
    await ends.load(facts())
    ends.source("delete from facts where fact_id <= 300")
    first = await asked(ends, facts())
    if when == "after it":
        await answer(ends, first)
    ends.source("delete from facts where fact_id = 301")

    second = await asked(ends, facts())

    assert [(one.decision_id, one.status) for one in await found(ends)] == [(first, "void"), (second, "open")]
    assert raw(ends) == 1000
    assert alerts(ends) == [("decision needed", "shop.facts")]
    assert not await answer(ends, first)
    await answer(ends, second)
    await ends.load(facts())
    assert raw(ends) == 699


async def test_runs_that_meet_an_open_question_do_not_ask_it_twice(ends: TwoEnds) -> None:
    await ends.load(facts())
    ends.source("delete from facts where fact_id <= 300")
    first = await asked(ends, facts())

    assert await asked(ends, facts()) == first

    assert ends.raw("select count(*) from ops.alert_transitions where transition <> 'resolved'") == [(1,)]


KINDS = {
    "merge": facts(),
    "replace": facts(load=Replace(min_share=0.9), deletes=False),
    "replace without a key": facts(load=Replace(min_share=0.9), key=(), deletes=False),
    "overwrite": facts(load=Overwrite(by="day", every="day", last=9999, min_share=0.9), deletes=False),
}


@pytest.mark.parametrize("load", KINDS)
async def test_a_yes_to_some_keys_is_none_to_as_many_others(ends: TwoEnds, load: str) -> None:
    """Bound to counts, 300 rows that somebody looked at would allow any other 300."""
    table = KINDS[load]
    await ends.load(table)
    ends.source("create table kept as select * from facts; delete from facts where fact_id between 200 and 300")
    first = await asked(ends, table)
    await answer(ends, first)
    ends.source("insert into facts select * from kept where fact_id = 200; delete from facts where fact_id = 301")

    second = await asked(ends, table)

    assert [(one.decision_id, one.status) for one in await found(ends)] == [(first, "void"), (second, "open")]
    assert raw(ends) == 1000
    await answer(ends, second)
    await ends.load(table)
    assert raw(ends) == 899
    assert ends.raw("select count(*) from raw_shop.facts where fact_id = 200 and _deleted_at is null") == [(1,)]


@pytest.mark.parametrize("load", KINDS)
async def test_the_same_keys_are_the_same_question_whatever_else_changed(ends: TwoEnds, load: str) -> None:
    table = KINDS[load]
    await ends.load(table)
    ends.source("delete from facts where fact_id between 200 and 300")
    await answer(ends, await asked(ends, table))
    ends.source("update facts set amount = 77 where fact_id = 900; insert into facts values (2000, 1, '2026-01-05')")

    await ends.load(table)

    assert raw(ends) == 900


async def test_fewer_of_the_keys_are_another_question(ends: TwoEnds) -> None:
    await ends.load(facts())
    ends.source("delete from facts where fact_id <= 300")
    first = await asked(ends, facts())
    ends.source("insert into facts values (1, 1, '2026-01-01')")

    assert await asked(ends, facts()) > first


async def test_no_key_can_be_guessed_from_the_digest(ends: TwoEnds) -> None:
    """The same keys of another warehouse have another one."""
    await ends.load(facts())
    ends.source("delete from facts where fact_id <= 300")
    await asked(ends, facts())
    ends.raw("update ops.profile_seed set seed = seed + 1")
    await asked(ends, facts())
    first, second = [one.plan["exact"]["keys"] for one in await found(ends)]
    assert first != second


async def test_a_no_refuses_the_next_run_and_the_one_after_asks_again(ends: TwoEnds) -> None:
    await ends.load(facts())
    ends.source("delete from facts where fact_id <= 300")
    number = await asked(ends, facts())
    await answer(ends, number, accept=False)

    with pytest.raises(DataRefused, match="anna refused it") as refused:
        await ends.load(facts())

    assert not isinstance(refused.value, DecisionNeeded)
    assert raw(ends) == 1000
    assert alerts(ends) == [("load refused", "shop.facts")]
    assert await asked(ends, facts()) > number


async def test_without_an_answer_in_time_it_stays_refused(ends: TwoEnds) -> None:
    await ends.load(facts())
    ends.source("delete from facts where fact_id <= 300")
    number = await asked(ends, facts(on_refusal=Ask(within="1 s")))
    ends.raw("update ops.decisions set expires_at = clock_timestamp()")

    assert not await answer(ends, number)

    assert [one.status for one in await found(ends)] == ["expired"]
    assert alerts(ends) == []
    assert await asked(ends, facts()) > number
    assert raw(ends) == 1000


async def test_what_no_longer_needs_a_person_closes_the_question(ends: TwoEnds) -> None:
    await ends.load(facts())
    ends.source("create table kept as select * from facts; delete from facts where fact_id <= 300")
    await asked(ends, facts())
    ends.source("insert into facts select * from kept on conflict do nothing")

    await ends.load(facts())

    assert [one.status for one in await found(ends)] == ["not needed"]
    assert alerts(ends) == []


async def test_the_first_answer_counts_and_the_second_hears_who_was_first(ends: TwoEnds) -> None:
    await ends.load(facts())
    ends.source("delete from facts where fact_id <= 300")
    number = await asked(ends, facts())

    assert await answer(ends, number, accept=False, by="anna")
    assert not await answer(ends, number, accept=True, by="ben")

    (one,) = await found(ends)
    assert one.outcome == "refused by anna"


async def test_a_load_that_is_killed_or_fails_does_not_use_the_answer_up(ends: TwoEnds) -> None:
    await ends.load(facts())
    ends.source("delete from facts where fact_id <= 300")
    await answer(ends, await asked(ends, facts()))
    ends.raw("alter table raw_shop.facts add constraint none_gone check (_deleted_at is null)")
    with pytest.raises(MedallionError):
        await ends.load(facts())
    assert (await found(ends))[0].used_at is None
    ends.raw("alter table raw_shop.facts drop constraint none_gone")

    await ends.load(facts())

    assert raw(ends) == 700


@pytest.mark.parametrize(
    ("table", "change", "kind"),
    [
        (
            facts(rules=(Rule("is_small", "amount < 100"),), max_quarantined=0.01, quarantine_floor=0),
            "update facts set amount = 200 where fact_id <= 50",
            "rejected rows",
        ),
        (facts(load=Replace(min_share=0.9), deletes=False), "delete from facts where fact_id <= 300", "deletes"),
        (
            facts(load=Overwrite(by="day", every="day", last=9999, min_share=0.9), deletes=False),
            "delete from facts where fact_id between 200 and 300",
            "deletes",
        ),
        (
            facts(load=Replace(min_share=0.9), key=(), deletes=False),
            "delete from facts where fact_id <= 300",
            "deletes",
        ),
        (facts(on_drift="freeze"), "alter table facts add column note text", "columns"),
        (
            facts(load=Append(), cursor=Sequence("fact_id"), deletes=False, on_drift="freeze"),
            "alter table facts drop column amount",
            "columns",
        ),
    ],
)
async def test_every_refusal_that_a_person_may_allow_is_asked(
    ends: TwoEnds, table: Table, change: str, kind: str
) -> None:
    await ends.load(table)
    ends.source(change)

    number = await asked(ends, table)

    assert [one.kind for one in await found(ends)] == [kind]
    await answer(ends, number)
    await ends.load(table)
    assert (await found(ends))[0].used_at is not None
    assert alerts(ends) in ([], [("rows quarantined", "shop.facts")], [("schema changed", "shop.facts")])


async def test_only_what_is_declared_is_asked_about(ends: TwoEnds) -> None:
    table = facts(on_refusal=Ask(about=("columns",)))
    await ends.load(table)
    ends.source("delete from facts where fact_id <= 300")
    with pytest.raises(DataRefused) as refused:
        await ends.load(table)
    assert not isinstance(refused.value, DecisionNeeded)
    assert await found(ends) == []


async def test_a_change_that_could_alter_values_is_refused_and_not_asked_about(ends: TwoEnds) -> None:
    table = facts(on_drift="freeze")
    await ends.load(table)
    ends.source("alter table facts alter amount type text")
    with pytest.raises(DataRefused) as refused:
        await ends.load(table)
    assert not isinstance(refused.value, DecisionNeeded)


async def test_an_accepted_change_of_columns_is_not_another_change(ends: TwoEnds) -> None:
    table = facts(on_drift="freeze")
    await ends.load(table)
    ends.source("alter table facts add column note text")
    await answer(ends, await asked(ends, table))
    ends.source("alter table facts add column name text")

    await asked(ends, table)

    assert [one.status for one in await found(ends)] == ["void", "open"]


async def test_what_was_asked_and_answered_cannot_be_changed(ends: TwoEnds) -> None:
    await ends.load(facts())
    ends.source("delete from facts where fact_id <= 300")
    await answer(ends, await asked(ends, facts()))
    for forged in (
        "delete from ops.decisions",
        "truncate ops.decisions",
        """update ops.decisions set plan = '{"exact": {}, "counts": {"deleted": 999}}'""",
        "update ops.decisions set answered_by = 'ben'",
        "update ops.decisions set reason = 'another'",
        "update ops.decisions set status = 'refused'",
    ):
        with pytest.raises(Exception, match="only added"):
            ends.raw(forged)
    ends.raw("update ops.decisions set reason = '[erased] moved'")  # as an erasure does
    await ends.load(facts())
    with pytest.raises(Exception, match="only added"):
        ends.raw("update ops.decisions set used_at = null")


async def test_who_requested_it_may_refuse_and_not_accept_it(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "requester", lambda: "Anna")
    await ends.load(facts())
    ends.source("delete from facts where fact_id <= 300")
    number = await asked(ends, facts(on_refusal=Ask(two_persons=True)))

    with pytest.raises(DeclarationError, match="may not accept"):
        await answer(ends, number, by=" anna ")

    assert await answer(ends, number, by="ben")


@pytest.mark.parametrize(("by", "reason"), [("", "why"), ("anna", " ")])
async def test_an_answer_has_a_name_and_a_reason(ends: TwoEnds, by: str, reason: str) -> None:
    await ends.load(facts())
    ends.source("delete from facts where fact_id <= 300")
    number = await asked(ends, facts())
    with pytest.raises(DeclarationError, match="name and a reason"):
        await answer(ends, number, by=by, reason=reason)


def test_a_plan_is_within_another_if_it_is_equal_or_less() -> None:
    shown = Question("deletes", {"share": 0.1, "parts": ["a", "b"]}, {"deleted": 300}).plan
    assert Question("deletes", {"parts": ["a", "b"], "share": 0.1}, {"deleted": 300}).is_within(shown)
    assert Question("deletes", {"share": 0.1, "parts": ["a", "b"]}, {"deleted": 299}).is_within(shown)
    assert not Question("deletes", {"share": 0.1, "parts": ["a", "b"]}, {"deleted": 301}).is_within(shown)
    assert not Question("deletes", {"share": 0.1, "parts": ["a", "c"]}, {"deleted": 1}).is_within(shown)
    assert not Question("deletes", {"share": 0.1, "parts": ["a", "b"]}, {"deleted": 1, "more": 1}).is_within(shown)
    assert Question("a", {"x": 1, "y": 2}).digest == Question("a", {"y": 2, "x": 1}).digest
