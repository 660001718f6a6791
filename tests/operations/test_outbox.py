"""Who is told of alerts: once, when it lasts, by root cause, until the receiver has accepted it."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime, timedelta

import pytest

from flows.declare import QuietHours, Route
from flows.operations.alerts import acknowledge, alerts_of, report, transitions_of
from flows.operations.grouping import group
from flows.operations.outbox import Outbox
from flows.operations.silences import end_silence, silence, silences
from flows.sources.alerting import ROUTES
from flows.values.errors import ConfigurationError
from tests.conftest import TestDatabase
from tests.operations.alerting import condition, desk
from tests.operations.receivers import Mailbox, mailbox, webhook
from tests.publish.two_ends import run_sql

MINUTE = timedelta(minutes=1)


async def test_a_problem_is_sent_once_and_its_end_once(warehouse: TestDatabase) -> None:
    with webhook() as receiver:
        async with desk(warehouse, channels={"default": receiver.url}) as it:
            for _ in range(3):
                await it.found(condition())
                await it.pass_by(MINUTE)
            await it.found()
            for _ in range(2):
                await it.pass_by(MINUTE)

    assert receiver.events == ["opened", "resolved"]
    first = receiver.accepted[0]
    assert first["alerts"][0]["subject"] == "shop.baskets"
    assert first["runbook"] == "docs/runbooks/late.md"
    assert "wait, or run it" in first["body"]
    assert "resolved at" in receiver.accepted[1]["body"]


async def test_what_ends_before_it_was_sent_wakes_nobody(warehouse: TestDatabase) -> None:
    with webhook() as receiver:
        async with desk(warehouse, channels={"default": receiver.url}, settle=MINUTE) as it:
            await it.found(condition())
            await it.pass_by()
            await it.found()
            await it.pass_by(2 * MINUTE)
            assert receiver.events == []
            # The control: what lasts is sent.
            await it.found(condition())
            await it.pass_by(MINUTE)
            assert receiver.events == ["opened"]


async def test_twenty_tables_of_a_source_that_is_down_are_one_incident(warehouse: TestDatabase) -> None:
    tables = [condition(f"shop.t{n}", "load failed", source="shop", cause="shop: unavailable") for n in range(20)]
    late = [condition(f"shop.t{n}", "late", source="shop", table=f"t{n}") for n in range(20)]
    other = condition("web.orders", "load failed", source="web", cause="web: broken")
    with webhook() as receiver:
        async with desk(warehouse, channels={"default": receiver.url}) as it:
            await it.found(*tables, *late, other)
            await it.pass_by()
            assert sorted(len(message["alerts"]) for message in receiver.accepted) == [1, 40]
            await it.found(*late[1:], other, condition("shop.t99", "late", source="shop", table="t99"))
            await it.pass_by(MINUTE)
            assert receiver.events[2:] == ["grew"]
            await it.found(other)
            await it.pass_by(MINUTE)

    assert receiver.events[2:] == ["grew", "resolved"]


async def test_late_gold_joins_the_incident_of_what_it_is_built_from(warehouse: TestDatabase) -> None:
    built_from = {"gold.daily": {"shop.baskets"}, "gold.other": {"web.orders"}}
    async with desk(warehouse) as it:
        await it.found(
            condition("shop.baskets", "load refused", source="shop", table="baskets", cause="shop: a rule"),
            condition("gold.daily", "late"),
            condition("gold.other", "late"),
        )
        groups = group(await it.open(), {}, lambda subject: built_from.get(subject, set()))

    assert sorted(sorted(alert.subject for alert in each.alerts) for each in groups) == [
        ["gold.daily", "shop.baskets"],
        ["gold.other"],
    ]


@pytest.mark.parametrize("trouble", [500, 503, 429, 404, None])
async def test_a_message_is_sent_until_the_receiver_accepts_it(
    warehouse: TestDatabase, trouble: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.operations.channels._SECONDS", 0.3)
    with webhook(answers=[trouble] * 3 + [200]) as receiver:
        async with desk(warehouse, channels={"default": receiver.url}) as it:
            await it.found(condition())
            for _ in range(6):
                await it.pass_by(MINUTE)

    assert receiver.requests == 4
    assert receiver.events == ["opened"]


async def test_what_waits_for_a_receiver_is_sent_in_order_when_it_is_back(warehouse: TestDatabase) -> None:
    with webhook() as receiver:
        port = receiver.port
    async with desk(warehouse, channels={"default": receiver.url}) as it:
        await it.found(condition())
        await it.pass_by()
        await it.found()
        await it.pass_by(MINUTE)
        with webhook(port) as back:
            await it.pass_by(5 * MINUTE)
            await it.pass_by(5 * MINUTE)
        assert back.events == ["opened", "resolved"]


async def test_nobody_hears_of_an_end_before_the_beginning(warehouse: TestDatabase) -> None:
    """The beginning waits for its next attempt when the end is written, and the receiver is back by then."""
    with webhook(answers=[503, 200]) as receiver:
        async with desk(warehouse, channels={"default": receiver.url}) as it:
            await it.found(condition())
            await it.pass_by()
            await it.found()
            await it.pass_by(timedelta(seconds=2))
            assert receiver.events == []
            await it.pass_by(timedelta(seconds=4))

    assert receiver.events == ["opened", "resolved"]


async def test_a_service_that_hangs_holds_nothing_up(warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.operations.sending._PATIENCE", 0.3)
    silent = socket.create_server(("127.0.0.1", 0))  # it accepts connections, and says nothing
    port = silent.getsockname()[1]
    routes = [Route(["mail"]), Route(["default"])]
    with silent, webhook() as receiver:
        channels = {"mail": Mailbox(port).url, "default": receiver.url}
        async with desk(warehouse, routes, channels) as it:
            await it.found(condition())
            done = await it.pass_by()

    assert (done.sent, done.refused) == (1, 1)
    assert receiver.events == ["opened"]


async def test_a_storm_of_causes_is_one_message(warehouse: TestDatabase) -> None:
    with webhook() as receiver:
        async with desk(warehouse, channels={"default": receiver.url}) as it:
            await it.found(*(condition(f"shop.t{n}") for n in range(60)))
            await it.pass_by()
            # The control: ten causes are ten messages.
            await it.found(*(condition(f"shop.t{n}") for n in range(70)))
            await it.pass_by(MINUTE)

    assert [len(message["alerts"]) for message in receiver.accepted] == [60] + 10 * [1]


async def test_attempts_at_a_receiver_that_is_away_come_less_and_less_often(warehouse: TestDatabase) -> None:
    with webhook(answers=[500]) as receiver:
        async with desk(warehouse, channels={"default": receiver.url}) as it:
            await it.found(condition())
            for _ in range(180):
                await it.pass_by(timedelta(seconds=20))

    assert 10 <= receiver.requests <= 25  # an hour, with five minutes between attempts at last


async def test_that_a_channel_does_not_accept_messages_is_told_to_the_others(warehouse: TestDatabase) -> None:
    routes = [Route(["broken"]), Route(["mail"])]
    with webhook(answers=[500]) as broken, mailbox() as box:
        async with desk(warehouse, routes, {"broken": broken.url, "mail": box.url}) as it:
            await it.found(condition())
            for _ in range(8):
                await it.pass_by(MINUTE)
            assert "alerts not delivered channel broken" in await it.names()
            told = [subject for subject, _ in box.mail]
            assert any("late shop.baskets" in subject for subject in told)
            assert sum("alerts not delivered channel broken" in subject for subject in told) == 1
            broken.answers[:] = [200]
            for _ in range(3):
                await it.pass_by(6 * MINUTE)
            assert "alerts not delivered channel broken" not in await it.names()
        assert "late shop.baskets" in broken.accepted[0]["subject"]
        assert not any("channel broken" in message["subject"] for message in broken.accepted)


async def test_mail_has_cause_next_move_and_runbook(warehouse: TestDatabase) -> None:
    with mailbox() as box:
        async with desk(warehouse, channels={"default": box.url}) as it:
            await it.found(condition(what="the source does not answer"))
            await it.pass_by()

    ((subject, text),) = box.mail
    assert subject == "[dev] error: late shop.baskets: the source does not answer"
    assert "What: the source does not answer" in text
    assert "Next: wait, or run it" in text
    assert "Runbook: docs/runbooks/late.md" in text


async def test_a_channel_without_an_address_is_told_to_the_others_and_nothing_is_lost(warehouse: TestDatabase) -> None:
    with webhook() as receiver:
        channels = {"default": receiver.url}
        async with desk(warehouse, [Route(["default"]), Route(["on-call"])], channels) as it:
            await it.found(condition())
            for _ in range(8):
                await it.pass_by(MINUTE)
            assert "alerts not delivered channel on-call" in await it.names()
    waiting = run_sql(warehouse.url("loader"), "select count(*) from ops.alert_messages where sent_at is null")
    assert waiting == [(1,)]


async def test_a_clone_without_a_channel_collects_no_messages(warehouse: TestDatabase) -> None:
    async with desk(warehouse) as it:
        await it.found(condition())
        await it.pass_by()
        assert await it.names() == ["late shop.baskets"]
    assert run_sql(warehouse.url("loader"), "select count(*) from ops.alert_messages") == [(0,)]


async def test_two_processes_send_each_message_once(warehouse: TestDatabase) -> None:
    with webhook() as receiver:
        async with (
            desk(warehouse, channels={"default": receiver.url}) as one,
            desk(warehouse, channels={"default": receiver.url}) as two,
        ):
            await one.found(*(condition(f"shop.t{n}") for n in range(10)))
            await asyncio.gather(*(each.pass_by(MINUTE) for each in (one, two)))
            await two.pass_by(MINUTE)

    assert len({message["key"] for message in receiver.accepted}) == len(receiver.accepted) == 10


async def test_acknowledged_is_told_and_stops_the_escalation(warehouse: TestDatabase) -> None:
    routes = [Route(["team"], escalate_after="30 min", escalate_to=["lead"])]
    with webhook() as team, webhook() as lead:
        async with desk(warehouse, routes, {"team": team.url, "lead": lead.url}) as it:
            await it.found(condition(), condition("web.orders"))
            await it.pass_by()
            (first, _) = await it.open()
            assert await acknowledge(it.connection, [first.alert_id], "ada", "looking") == [first.alert_id]
            await it.pass_by(31 * MINUTE)
            await it.pass_by(31 * MINUTE)
            assert [told.transition for told in await transitions_of(it.connection, first.alert_id)] == [
                "fired",
                "acknowledged",
            ]

    assert sorted(team.events) == ["acknowledged", "opened", "opened"]
    assert "by ada: looking" in next(m["note"] for m in team.accepted if m["event"] == "acknowledged")
    # The control: the one that nobody took up.
    assert [message["alerts"][0]["subject"] for message in lead.accepted] == ["web.orders"]
    assert lead.events == ["escalated"]


async def test_an_alert_that_is_over_cannot_be_acknowledged(warehouse: TestDatabase) -> None:
    async with desk(warehouse) as it:
        await it.found(condition())
        (alert,) = await it.open()
        await it.found()
        with pytest.raises(ConfigurationError, match="is over"):
            await acknowledge(it.connection, [alert.alert_id], "ada", None)
        with pytest.raises(ConfigurationError, match="does not exist"):
            await acknowledge(it.connection, [10**9], "ada", None)


async def test_in_quiet_hours_only_what_is_critical_is_sent_and_the_rest_follows(warehouse: TestDatabase) -> None:
    routes = [Route(["default"], quiet=QuietHours("22:00", "07:00", "Europe/Berlin"))]
    with webhook() as receiver:
        async with desk(warehouse, routes, {"default": receiver.url}) as it:
            it.now = datetime(2030, 1, 15, 23, 30, tzinfo=UTC)  # 00:30 in Berlin
            await it.found(
                condition("shop.a"), condition("shop.b", severity="critical"), condition("shop.ends by itself")
            )
            await it.pass_by()
            assert [message["alerts"][0]["subject"] for message in receiver.accepted] == ["shop.b"]
            await it.found(condition("shop.a"), condition("shop.b", severity="critical"))
            await it.pass_by(timedelta(hours=6, minutes=29))
            assert len(receiver.accepted) == 1
            await it.pass_by(MINUTE)  # 07:00 in Berlin
            assert [message["alerts"][0]["subject"] for message in receiver.accepted] == ["shop.b", "shop.a"]


async def test_a_silence_holds_back_and_ends_with_a_word(warehouse: TestDatabase) -> None:
    with webhook() as receiver:
        async with desk(warehouse, channels={"default": receiver.url}) as it:
            await silence(it.connection, "late shop.*", timedelta(minutes=30), "they move house", "ada")
            await it.found(condition("shop.a"), condition("web.b"))
            await it.pass_by()
            assert [message["alerts"][0]["subject"] for message in receiver.accepted] == ["web.b"]
            assert [alert.status for alert in await it.open()] == ["silenced", "firing"]
            await it.pass_by(31 * MINUTE)
            assert receiver.events == ["opened", "silence ended", "opened"]
            assert "1 alerts are still firing" in receiver.accepted[1]["body"]
            assert receiver.accepted[2]["alerts"][0]["subject"] == "shop.a"
            assert await silences(it.connection) == []


async def test_a_silence_of_what_ends_meanwhile_says_that_nothing_fires(warehouse: TestDatabase) -> None:
    with webhook() as receiver:
        async with desk(warehouse, channels={"default": receiver.url}) as it:
            await it.found(condition())
            await it.pass_by()
            await silence(it.connection, "*", timedelta(hours=9), "known", "ada")
            assert [alert.status for alert in await it.open()] == ["silenced"]
            (held,) = await silences(it.connection)
            await end_silence(it.connection, held.silence_id)
            await it.found()
            await it.pass_by(MINUTE)

    assert sorted(receiver.events) == ["opened", "resolved", "silence ended"]
    assert "none of its alerts is firing" in next(m["body"] for m in receiver.accepted if m["event"] == "silence ended")


async def test_another_cause_or_a_worse_one_is_news_and_the_same_again_is_not(warehouse: TestDatabase) -> None:
    with webhook() as receiver:
        async with desk(warehouse, channels={"default": receiver.url}) as it:
            for severity, cause in (("warning", "a"), ("warning", "a"), ("error", "a"), ("error", "b"), ("error", "b")):
                await it.found(condition(severity=severity, cause=cause))
                await it.pass_by(MINUTE)
            (alert,) = await it.open()
            assert (alert.severity, alert.times) == ("error", 5)

    assert receiver.events == ["opened", "changed", "changed"]


async def test_what_a_transaction_takes_back_was_never_an_alert(warehouse: TestDatabase) -> None:
    with webhook() as receiver:
        async with desk(warehouse, channels={"default": receiver.url}) as it:
            turn = it.connection.transaction()
            await turn.start()
            await report(it.connection, "a check", [condition()])
            await turn.rollback()
            await it.pass_by(MINUTE)
            assert await it.open() == []
    assert receiver.requests == 0


async def test_a_pass_gives_way_to_a_load_that_commits_and_writes_the_messages_afterwards(
    warehouse: TestDatabase,
) -> None:
    with webhook() as receiver:
        async with (
            desk(warehouse, channels={"default": receiver.url}) as it,
            desk(warehouse) as load,
        ):
            await it.found(condition())
            turn = load.connection.transaction()
            await turn.start()
            await load.connection.execute("update ops.alerts set times = times + 1")
            async with asyncio.timeout(3):
                assert (await it.pass_by(MINUTE)).written == 0
            await turn.commit()
            assert (await it.pass_by(MINUTE)).sent == 1


async def test_no_address_of_a_channel_is_kept_or_shown(
    warehouse: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="flows")
    with webhook(answers=[500, 404]) as receiver, mailbox() as box:
        pass
    async with desk(warehouse, [Route(["hook", "mail"])], {"hook": receiver.url, "mail": box.url}) as it:
        await it.found(condition())
        for _ in range(4):
            await it.pass_by(MINUTE)
        shown = str(await alerts_of(it.connection, range(100)))
    everything = "select string_agg(m::text, '') from (table ops.alert_messages) as m"
    kept = run_sql(warehouse.url("loader"), f"{everything} union all {everything.replace('alert_messages', 'alerts')}")
    assert "did not accept" in caplog.text
    for text in (caplog.text, shown, str(kept), repr(it.outbox)):
        assert "secret-in-the-path" not in text
        assert str(box.port) not in text


def test_the_declared_routes_and_the_outbox_fit() -> None:
    assert Outbox(ROUTES).settle == timedelta(seconds=30)
