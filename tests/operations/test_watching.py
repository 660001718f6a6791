"""The watch from outside: what is away is told, once, also when alerts cannot be written down."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta
from pathlib import Path

import pytest

from flows.declare import Route
from flows.operations import watching as watching_module
from flows.operations.alerts import Condition
from flows.operations.checks.check import Check, Round
from flows.operations.checks.clock import Clocks
from flows.operations.watch_clock import Looked
from flows.operations.watching import Watch
from flows.values.settings import settings
from tests.conftest import TestDatabase
from tests.operations.alerting import condition
from tests.operations.watches import check, hang, watching
from tests.private_cluster import private_cluster
from tests.publish.two_ends import run_sql

MINUTE = timedelta(minutes=1)
WAREHOUSE_DOWN = "warehouse down warehouse"


def rows(warehouse: TestDatabase, query: str) -> list[tuple[object, ...]]:
    import psycopg

    with psycopg.connect(warehouse.url("loader")) as connection:
        return connection.execute(query.encode()).fetchall()


async def test_what_a_check_finds_is_told_once_and_its_end_once(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [condition("disk", "full", "critical")]
    with watching(monkeypatch, warehouse.url("loader"), [check("a", lambda _: found)]) as it:
        looked = await it.rounds(3)
        assert looked.good
        found.clear()
        await it.rounds(2)
        assert it.told == ["opened full disk", "resolved full disk"]
        assert rows(warehouse, "select host, rounds from ops.watches") == [("here", 5)]


async def test_a_warehouse_that_is_killed_is_told_directly_once_and_that_it_is_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing can be written into an outbox that is down; a restart of the watch does not tell once more."""
    with private_cluster() as private:
        warehouse = private.warehouse("warehouse_watched")
        options = {"settle": timedelta(seconds=30), "file": tmp_path / "watch.json"}
        with watching(monkeypatch, warehouse.url("loader"), **options) as it:  # type: ignore[arg-type]
            assert (await it.rounds()).good
            private.stop()
            looked = await it.rounds(3)
            assert not looked.good
            assert it.told == [], "it may be a restart"
            await it.rounds(9)
            assert it.told == [f"opened {WAREHOUSE_DOWN}"], "within two minutes, once"
            message = it.receiver.accepted[0]
            assert message["severity"] == "critical"
            assert message["runbook"] == "docs/runbooks/warehouse-down.md"
            assert str(private.cluster.passwords["medallion_loader"]) not in str(message)

            from dataclasses import replace

            from flows.operations.direct import Direct

            it.watch = replace(it.watch)  # a new process
            it.watch.direct = Direct(it.watch.direct.routes, it.watch.book.channel, tmp_path / "watch.json")
            await it.rounds(3)
            assert it.told == [f"opened {WAREHOUSE_DOWN}"]

            private.restart("immediate")
            assert (await it.rounds(3)).good
            assert it.told == [f"opened {WAREHOUSE_DOWN}", f"resolved {WAREHOUSE_DOWN}"]
            assert rows(warehouse, "select name, status from ops.alerts") == [("warehouse down", "resolved")]


async def test_a_restart_of_the_warehouse_wakes_nobody_and_neither_do_those_who_want_no_critical_alerts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nobody = (Route(["default"], only="something else *"),)
    for routes, settle in ((nobody, timedelta()), ((Route(["default"]),), MINUTE)):
        with watching(
            monkeypatch, "postgresql://medallion_loader:secret@127.0.0.1:1/warehouse", routes=routes, settle=settle
        ) as it:
            await it.rounds(3)
            assert it.told == []
    # The control.
    with watching(monkeypatch, "postgresql://medallion_loader:secret@127.0.0.1:1/warehouse") as it:
        await it.rounds(3)
        assert it.told == [f"opened {WAREHOUSE_DOWN}"]


async def test_a_warehouse_that_flaps_is_told_as_such_once_and_again_when_it_is_calm(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watching(monkeypatch, warehouse.url("loader")) as it:
        for _ in range(7):
            away(monkeypatch)
            await it.rounds()
            monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", warehouse.url("loader"))
            settings.cache_clear()
            await it.rounds()
        events = [message["event"] for message in it.receiver.accepted]
        assert events == ["opened", "resolved"] * 3 + ["flapping"]
        assert "It flaps" in it.receiver.accepted[-1]["body"]
        assert "critical: flapping: warehouse down" in it.receiver.accepted[-1]["subject"]
        await it.rounds(3)
        assert rows(warehouse, "select count(*) from ops.alerts") == [(7,)], "each is recorded once"
        await it.rounds(1, timedelta(minutes=61))
        assert it.told[-1] == f"resolved {WAREHOUSE_DOWN}"
        assert len(it.told) == 8
        # The control: one that is away for good is told as always.
        away(monkeypatch)
        await it.rounds()
        assert it.told[8:] == [f"opened {WAREHOUSE_DOWN}"]


async def test_other_critical_problems_are_told_directly_while_the_warehouse_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [condition("server", "gone", "critical"), condition("disk", "rather full", "error")]
    url = "postgresql://medallion_loader:secret@127.0.0.1:1/warehouse"
    with watching(monkeypatch, url, [check("a", lambda _: found)]) as it:
        await it.rounds(3)
        assert sorted(it.told) == ["opened gone server", f"opened {WAREHOUSE_DOWN}"]


async def test_what_the_outbox_has_told_is_not_told_again_when_the_warehouse_goes_away(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [condition("server", "gone", "critical")]
    with watching(monkeypatch, warehouse.url("loader"), [check("a", lambda _: [*found])]) as it:
        await it.rounds(3)
        away(monkeypatch)
        found.append(condition("pool", "no worker", "critical"))
        await it.rounds(3)
        assert it.told[:1] == ["opened gone server"]
        assert sorted(it.told[1:]) == ["opened no worker pool", f"opened {WAREHOUSE_DOWN}"]


def away(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nobody answers where the warehouse was."""
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", "postgresql://a:b@127.0.0.1:1/warehouse")
    settings.cache_clear()


async def test_a_receiver_that_refuses_is_told_of_the_warehouse_once_it_accepts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = "postgresql://medallion_loader:secret@127.0.0.1:1/warehouse"
    with watching(monkeypatch, url) as it:
        it.receiver.answers[:] = [500, 500, 200]
        await it.rounds(6)
        assert it.told == [f"opened {WAREHOUSE_DOWN}"]
        assert it.receiver.requests == 3


async def test_a_check_that_fails_or_hangs_is_told_and_stops_no_other(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Round) -> list[Condition]:
        raise ZeroDivisionError("a secret")

    async def block_the_session(at: Round) -> list[Condition]:
        await at.connection.execute("set statement_timeout = 0")
        await at.connection.execute("select pg_sleep(60)")
        return []

    async def end_the_session(at: Round) -> list[Condition]:
        await at.connection.execute("select pg_terminate_backend(pg_backend_pid())")
        return []

    async def ask(at: Round) -> list[Condition]:
        await at.connection.execute("select 1")
        return [condition("disk", "full", "critical")]

    needs = frozenset({"warehouse"})
    checks = [
        check("fails", fail),
        Check("hangs", hang, patience=0.2),
        Check("blocks", block_the_session, needs, patience=0.2),  # type: ignore[arg-type]
        Check("ends", end_the_session, needs),  # type: ignore[arg-type]
        Check("works", ask, needs),  # type: ignore[arg-type]
    ]
    with watching(monkeypatch, warehouse.url("loader"), checks) as it:
        began = time.monotonic()
        looked = await it.rounds()
        assert time.monotonic() - began < 5
        assert looked.good
        assert looked.cannot == ("check fails", "check hangs", "check blocks", "check ends")
        await it.rounds()
        cannot = [f"opened watch cannot check check {name}" for name in ("blocks", "ends", "fails", "hangs")]
        assert sorted(it.told) == ["opened full disk", *cannot]
        assert "a secret" not in str(it.receiver.accepted)


async def test_what_a_check_found_stays_as_it_is_while_it_cannot_look(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken: list[bool] = []

    def look(_: Round) -> list[Condition]:
        if broken:
            raise RuntimeError
        return [condition("disk", "full")]

    with watching(monkeypatch, warehouse.url("loader"), [check("a", look)]) as it:
        await it.rounds()
        broken.append(True)
        await it.rounds(2)
        assert "resolved full disk" not in it.told
        broken.clear()
        await it.rounds()
        cannot = "watch cannot check check a"
        assert it.told == ["opened full disk", f"opened {cannot}", f"resolved {cannot}"]


async def test_a_check_that_cannot_be_stopped_is_not_started_again(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each round would leave one more behind."""
    started: list[bool] = []

    async def look(_: Round) -> list[Condition]:
        started.append(True)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(3600)
        return []

    with watching(monkeypatch, warehouse.url("loader"), [Check("store", look, patience=0.1)]) as it:
        await it.rounds(3)
        assert len(started) == 1
        for task in it.watch._hanging.values():
            task.cancel()


@pytest.mark.parametrize("leap", [timedelta(hours=3), -timedelta(hours=3)])
async def test_the_clock_jumps_and_it_is_told_within_two_minutes(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch, leap: timedelta
) -> None:
    clocks = Clocks()
    look = Check("clocks", lambda at: clocks.look(at.now, at.elapsed, at.warehouse, None))
    with watching(monkeypatch, warehouse.url("loader"), [look]) as it:
        await it.rounds(3)
        assert it.told == []
        it.hands.jump(leap)
        await it.rounds(2)
        assert sorted(it.told) == ["opened clock jumped watch's machine", "opened clocks differ warehouse"]
        assert ("forward" if leap > timedelta() else "back") in str(it.receiver.accepted)
        it.hands.jump(-leap)
        await it.rounds(3)
        assert "resolved clocks differ warehouse" not in it.told, "the jump back is a jump too, of the same incident"


async def test_a_watch_without_the_check_of_clocks_says_nothing_of_a_jump(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watching(monkeypatch, warehouse.url("loader")) as it:
        await it.rounds()
        it.hands.jump(timedelta(hours=3))
        await it.rounds(3)
        assert it.told == []


async def test_the_dead_mans_switch_is_pinged_after_good_rounds_only_and_never_logged(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pings: list[str] = []
    with pinged(pings) as url, caplog.at_level(logging.DEBUG, logger="flows"):
        with watching(monkeypatch, warehouse.url("loader"), MEDALLION_WATCH_PING_URL=url) as it:
            await it.rounds(2)
            assert len(pings) == 2
            away(monkeypatch)
            await it.rounds(2)
            assert len(pings) == 2, "the warehouse is away: the switch must tell so"
        with watching(monkeypatch, warehouse.url("loader"), MEDALLION_WATCH_PING_URL=url + "/404") as it:
            await it.rounds(5)
            assert it.told == ["opened watch ping fails watch"]
    assert "secret-ping" not in caplog.text
    assert "secret-ping" not in str(rows(warehouse, "select what, fix from ops.alerts"))


def pinged(pings: list[str]):  # type: ignore[no-untyped-def]
    """An address that is pinged; what ends in 404 is answered so."""
    import threading
    from contextlib import contextmanager
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pings.append(self.path)
            self.send_response(404 if self.path.endswith("404") else 200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    @contextmanager
    def serving():  # type: ignore[no-untyped-def]
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/secret-ping"
        server.shutdown()
        server.server_close()

    return serving()


async def test_a_prefect_server_that_is_away_is_told_by_a_watch_that_knows_of_it_only(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    with watching(monkeypatch, warehouse.url("loader"), names=["transform"]) as it:
        await it.rounds(2)
        assert it.told == ["opened Prefect server down Prefect server"]
    with watching(monkeypatch, warehouse.url("loader")) as it:
        await it.rounds(2)
        assert it.told == []


async def test_an_outbox_that_does_not_move_is_told_directly(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own alert would wait in it."""
    run_sql(warehouse.url("admin"), "alter table ops.alert_messages rename column facts to other")
    with watching(monkeypatch, warehouse.url("loader"), [check("a", lambda _: [condition()])]) as it:
        looked = await it.rounds(2)
        assert not looked.good
        assert it.told == ["opened outbox stuck outbox"]
        run_sql(warehouse.url("admin"), "alter table ops.alert_messages rename column other to facts")
        await it.rounds(2)
        assert "resolved outbox stuck outbox" in it.told
        assert "opened late shop.baskets" in it.told


async def test_a_receiver_that_hangs_does_not_keep_the_watch_from_looking(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watching(monkeypatch, warehouse.url("loader"), [check("a", lambda _: [condition()])]) as it:
        it.receiver.answers[:] = [None, 200]
        looked = await it.rounds(2)
        assert looked.good


async def test_a_watch_whose_round_hangs_or_fails_looks_again_and_stops_when_it_is_told(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rounds: list[str] = []

    with watching(monkeypatch, warehouse.url("loader")) as it:
        stop = asyncio.Event()

        async def looked(self: Watch) -> Looked:
            rounds.append("begun")
            if len(rounds) == 1:
                await asyncio.Event().wait()
            if len(rounds) == 2:
                raise RuntimeError("a secret")
            stop.set()
            return Looked(True, 0)

        monkeypatch.setattr(Watch, "round", looked)
        monkeypatch.setattr(watching_module, "_ROUND_SECONDS", 0.05)
        monkeypatch.setattr(watching_module, "_STOP_SECONDS", 0.05)
        it.watch.alive = tmp_path / "home" / "watch.alive"
        async with asyncio.timeout(10):
            await it.watch.run(stop, 0.01)
        assert len(rounds) == 3
        assert it.watch.alive.exists()
        async with asyncio.timeout(10):
            await it.watch.run(asyncio.Event(), 0.01, lives=lambda: False)
        assert len(rounds) == 3, "there is nothing to look at any more"
