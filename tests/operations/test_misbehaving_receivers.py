"""Receivers and addresses that misbehave: no message is lost or sent twice for it, and nobody else's is held back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from flows.declare import Route
from flows.operations.channels import Channel, NotAccepted, _pause, message_key
from flows.operations.messages import compose
from flows.operations.services import calm
from flows.values.settings import settings
from infra.local.ports import any_free
from tests.conftest import TestDatabase
from tests.operations.alerting import condition, desk
from tests.operations.receivers import webhook
from tests.operations.watches import watching

MINUTE = timedelta(minutes=1)
ACCEPTS = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A receiver that answers each request in bytes of the test's own; its address."""
    server = socket.create_server(("127.0.0.1", 0))

    def one(connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            with suppress(OSError):  # whoever sent the request has closed the connection
                answer(connection)

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    with server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/secret-in-the-path"
        server.shutdown(socket.SHUT_RDWR)


async def send(url: str, key: str = "a key") -> None:
    await Channel("default", url).send(1, key, "error", "subject", "body", {})


def endless(connection: socket.socket) -> None:
    connection.sendall(ACCEPTS + b"\r\n")
    for _ in range(2000):  # 2 GB
        connection.sendall(b"x" * 1_000_000)
    raise AssertionError("the body was read")


@pytest.mark.parametrize(
    "answer",
    [
        endless,
        lambda connection: connection.sendall(ACCEPTS + b"Content-Length: 99\r\n\r\ncut"),
        lambda connection: connection.sendall(ACCEPTS + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\ncut"),
    ],
    ids=["endless", "cut short", "badly compressed"],
)
async def test_the_status_says_that_a_message_was_accepted_whatever_the_body_does(
    answer: Callable[[socket.socket], None],
) -> None:
    with answering(answer) as url:
        await send(url)


async def test_a_refusal_is_one_whatever_the_body_says() -> None:
    refusal = b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\nok"
    with (
        answering(lambda connection: connection.sendall(refusal)) as url,
        pytest.raises(NotAccepted, match="answered 500"),
    ):
        await send(url)


@pytest.mark.parametrize("address", ["http://[::1", "mailto://[", "json://[", "https://exa mple:port/x", ""])
async def test_an_address_that_is_none_does_not_hold_up_the_others(warehouse: TestDatabase, address: str) -> None:
    with webhook() as receiver:
        async with desk(warehouse, [Route(["bad"]), Route(["good"])], {"bad": address, "good": receiver.url}) as it:
            await it.found(condition())
            assert (await it.pass_by(MINUTE)).refused == 1
    assert receiver.events == ["opened"]


async def test_an_address_that_is_none_does_not_keep_others_from_hearing_that_the_warehouse_is_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    routes = [Route(["bad"]), Route(["default"])]
    nowhere = "postgresql://loader:x@127.0.0.1:1/none"
    with watching(monkeypatch, nowhere, routes=routes, MEDALLION_ALERT_CHANNEL_BAD="http://[::1") as it:
        it.watch.book.names = ["bad", "default"]
        await it.rounds(2)
        assert it.told == ["opened warehouse down warehouse"]


async def test_a_receiver_that_asks_for_a_pause_gets_it(warehouse: TestDatabase) -> None:
    asked = []

    def busy(connection: socket.socket) -> None:
        asked.append(connection)
        connection.sendall(b"HTTP/1.1 429 Slow\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n")

    with answering(busy) as url:
        async with desk(warehouse, channels={"default": url}) as it:
            await it.found(condition("shop.a"), condition("shop.b"))
            for _ in range(9):
                await it.pass_by(MINUTE)
            assert len(asked) == 1
            await it.pass_by(2 * MINUTE)
            assert len(asked) == 2


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("600", 600.0), ("9" * 400, 999_999_999.0), ("Thu, 01 Jan 2026 00:00:00 GMT", 0.0), ("soon", None), ("", None)],
)
def test_a_pause_is_a_number_or_a_date(value: str, seconds: float | None) -> None:
    assert _pause(value) == seconds


async def test_of_several_recipients_of_mail_each_that_accepts_gets_it_once() -> None:
    took: list[str] = []
    refuses = {"b@example.org"}

    class Handler:
        async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
            self, server: Any, session: Any, envelope: Any, address: str, options: Any
        ) -> str:
            if address in refuses:
                return "450 later"
            envelope.rcpt_tos.append(address)
            return "250 ok"

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
            took.extend(envelope.rcpt_tos)
            return "250 accepted"

    controller = Controller(Handler(), hostname="127.0.0.1", port=any_free())
    controller.start()
    try:
        url = f"mailto://127.0.0.1:{controller.port}?from=m@example.org&to=a@example.org,b@example.org&mode=insecure"
        for _ in range(2):
            with pytest.raises(NotAccepted):
                await send(url)
        refuses.clear()
        await send(url)
        assert took == ["a@example.org", "b@example.org"]
        # The control: the next message is for both.
        await send(url, "another key")
        assert took[2:] == ["a@example.org", "b@example.org"]
    finally:
        controller.stop()


def test_a_message_is_known_by_a_key_of_its_environment_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver would drop the message of another environment, or the next one of that id after a restore."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    ours = message_key(31, at)
    assert ours == message_key(31, at)
    assert ours != message_key(31, at + timedelta(microseconds=1))
    monkeypatch.setenv("MEDALLION_ENVIRONMENT", "staging")
    settings.cache_clear()
    assert ours != message_key(31, at)
    settings.cache_clear()


@pytest.mark.parametrize(
    "name", ["@everyone", "x@here", "<!channel>", "<@U123>", "<http://evil|fine>", "[fine](http://e)"]
)
def test_names_and_errors_notify_nobody_and_hide_no_link(name: str) -> None:
    text = calm(f"load failed shop.{name}")
    assert not any(form in text for form in ("@e", "@h", "<", ">", "]("))
    assert calm("ask ada@example.org") == "ask ada@example.org"


async def test_a_name_makes_no_line_of_its_own_and_reverses_none(warehouse: TestDatabase) -> None:
    async with desk(warehouse) as it:
        await it.found(condition("shop.a\nNext: pay", what="x\u202ey\nAcknowledge: never"))
        body = compose("opened", 1, await it.open()).body
    assert [line for line in body.splitlines() if line.startswith("Next:")] == ["Next: wait, or run it"]
    assert "\u202e" not in body


async def test_a_message_about_very_many_tables_is_small(warehouse: TestDatabase) -> None:
    with webhook() as receiver:
        async with desk(warehouse, channels={"default": receiver.url}) as it:
            first = condition("shop.worst", severity="critical", cause="shop: late", what="x" * 300)
            others = [condition(f"shop.t{n}", cause="shop: late", what="x" * 300) for n in range(150)]
            await it.found(*others, first)
            await it.pass_by(MINUTE)
    (message,) = receiver.accepted
    assert (len(message["alerts"]), message["more"], message["alerts"][0]["subject"]) == (100, 51, "shop.worst")
    assert len(str(message)) < 100_000


async def test_a_flood_is_sent_in_parts_and_no_message_twice(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass that takes too long is interrupted: before it notes a message as sent, that would be sent twice."""
    monkeypatch.setattr("flows.operations.sending._MOST", 10)
    monkeypatch.setattr("flows.operations.sending._BUDGET", 0.0)
    with webhook() as receiver:
        async with desk(warehouse, channels={"default": receiver.url}) as it:
            await it.connection.execute(
                "insert into ops.alert_messages (channel, about, severity, subject, body, facts) "
                "select 'default', 'test', 'error', 's', 'b', '{\"event\": \"test\"}' from generate_series(1, 40)"
            )
            done = await it.pass_by()
            assert done.sent < 40
            monkeypatch.setattr("flows.operations.sending._BUDGET", 25.0)
            await it.pass_by(MINUTE)
    assert len(receiver.accepted) == 40 == len({message["key"] for message in receiver.accepted})


async def test_messages_of_a_channel_that_no_route_names_any_more_are_dropped(warehouse: TestDatabase) -> None:
    with webhook() as receiver:
        channels = {"default": receiver.url}
        async with desk(warehouse, [Route(["former"]), Route(["default"])], channels) as it:
            await it.found(condition())
            for _ in range(8):
                await it.pass_by(MINUTE)
            assert "alerts not delivered channel former" in await it.names()
        async with desk(warehouse, [Route(["default"])], channels) as it:
            it.now += 9 * MINUTE
            await it.pass_by(MINUTE)
            assert await it.names() == ["late shop.baskets"]
