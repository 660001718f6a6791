"""Runbooks of the warehouse, of what the watch's machine needs, and of the watch itself, on a cluster of their own."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

from flows.declare import Merge, Triggers
from flows.kinds.captured import Table
from flows.operations.alerts import Condition
from flows.operations.checks import connections, disk, expiry
from flows.operations.checks.captured import captured_changes_wait
from flows.operations.checks.check import Round
from flows.operations.checks.clock import Clocks
from flows.operations.checks.outbox import outbox_moves
from flows.operations.exporting import exporter
from flows.values.settings import settings
from flows.verbs.load import load_table
from infra.backup import key
from infra.backup.catalog import Backup, Catalog, Watermark
from infra.backup.overdue import overdue
from infra.backup.store import FolderStore
from infra.local.ports import any_free
from tests.docs.runbooks.night import Night, ago, exercise
from tests.operations.checks.certificate import certificate
from tests.private_cluster import PrivateCluster, private_cluster
from tests.publish.two_ends import TwoEnds
from tests.sessions import forget

_MB = 1024**2


@pytest.fixture(scope="module")
def private() -> Iterator[PrivateCluster]:
    with private_cluster() as private:
        yield private


@pytest.fixture(scope="module")
def ends(private: PrivateCluster) -> TwoEnds:
    return TwoEnds(private.warehouse("warehouse_night"), private.shop("shop_night"))


@exercise("connections used up")
def test_connections_that_an_application_leaves_open(night: Night) -> None:
    url = night.ends.warehouse.url("transformer")
    left = [psycopg.connect(url, autocommit=True, application_name="leaking") for _ in range(30)]
    night.watch(lambda at: connections.connections_used(at.connection, 12))
    night.follow("connections used up", "warehouse", APPLICATION="leaking")
    for each in left:
        each.close()


@exercise("transaction open")
def test_a_transaction_that_stays_open(night: Night) -> None:
    left = psycopg.connect(night.ends.warehouse.url("transformer"))
    left.execute("select pg_sleep(0.3)")
    night.watch(lambda at: connections.transactions_open(at.connection, timedelta(seconds=0.25)))
    night.follow("transaction open", "warehouse", PID=str(left.info.backend_pid))
    left.close()


@exercise("disk full soon")
def test_a_disk_that_is_nearly_full(night: Night) -> None:
    night.as_admin("create unlogged table public.left_over as select n from generate_series(1, 1500000) as n")
    [(used,)] = night.as_admin("select sum(pg_database_size(oid)) from pg_database")
    percent = 100 - 100 * 20 * _MB / int(used)
    night.watch(lambda at: disk.disk_declared(at.connection, float(used), percent))
    night.follow("disk full soon", "warehouse", hands={4: lambda: night.as_admin("drop table public.left_over")})


@exercise("slot retains WAL")
def test_a_slot_that_nobody_reads(night: Night) -> None:
    night.as_admin("select pg_create_physical_replication_slot('forgotten', true)")
    night.as_admin("create table public.written as select n from generate_series(1, 1000) as n")
    # Commits of this cluster do not wait until their WAL is written.
    night.as_admin("select pg_switch_wal()")
    night.watch(lambda at: disk.slots(at.connection, 1000))
    night.follow("slot retains WAL", "slot forgotten", SLOT="forgotten")


@exercise("captured changes wait")
def test_captured_changes_that_nobody_loads(night: Night) -> None:
    night.at_source("create table counted (id bigint primary key)")
    night.at_source("grant select on counted to public")
    table = Table("counted", key="id", load=Merge())
    night.declare(table, capture=Triggers())
    night.patched.setenv("MEDALLION_SOURCE_SHOP_URL", night.ends.shop.url("extractor"))
    night.patched.setenv("MEDALLION_SOURCE_SHOP_OWNER_URL", night.ends.shop.url("admin"))
    night.run("medallion capture setup shop --yes")
    night.at_source("insert into counted values (1)")

    def load(_: list[str]) -> None:
        night.wait_for(load_table(night.ends.warehouse_address, night.ends.shop_address, night.source, table))

    night.stands_for["medallion run "] = load
    night.watch(lambda at: captured_changes_wait(at.connection, timedelta(), (night.source,)))
    night.follow("captured changes wait", "captured shop.counted", SOURCE="shop", TABLE="counted")
    night.run("medallion capture drop shop --yes")


@exercise("Prefect database large")
def test_a_large_database_of_prefect(night: Night) -> None:
    there = replace(night.ends.warehouse, name="prefect")
    night.as_admin("create database prefect")
    night.as_admin("create table log as select repeat('x', 1000) as message from generate_series(1, 8000)", there)
    [(size,)] = night.as_admin("select pg_database_size('prefect')")
    night.watch(lambda at: disk.prefect_database(at.connection, int(size) - 2 * _MB))
    # What the command does with a server: tests/privacy/test_retention.py.
    night.stands_for["medallion purge"] = lambda _: None
    night.stands_for["medallion purge --delete"] = lambda _: night.as_admin("delete from log", there)
    night.follow("Prefect database large", "database prefect")
    forget("prefect")


@exercise("transaction ids run out")
def test_transaction_ids_that_are_not_frozen(night: Night) -> None:
    # The warehouse's are the oldest of the cluster.
    for [name] in night.as_admin("select datname from pg_database where datallowconn"):
        if name != night.ends.warehouse.name:
            night.as_admin("vacuum (freeze)", replace(night.ends.warehouse, name=name))
    [(age,)] = night.as_admin("select age(datfrozenxid) from pg_database where datname = current_database()")
    night.watch(lambda at: disk.transaction_ids(at.connection, warning=int(age) - 5))
    night.follow("transaction ids run out", f"database {night.ends.warehouse.name}")


@exercise("certificate ends")
def test_a_certificate_that_ends(night: Night, tmp_path: Path) -> None:
    port, serving = any_free(), [1]

    async def look(_: Round) -> list[Condition]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate(tmp_path, datetime.now(UTC) + timedelta(days=serving[0])))

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", port, ssl=context):
            there = expiry.Endpoint("source web", "127.0.0.1", port)
            return await expiry.certificates([there], datetime.now(UTC), timedelta(days=21))

    night.watch(look)
    night.follow("certificate ends", "source web", hands={2: lambda: serving.__setitem__(0, 90)})


@exercise("password ends")
def test_a_password_that_ends(night: Night) -> None:
    night.as_admin(f"alter role medallion_reader valid until '{datetime.now(UTC) + timedelta(days=1)}'")
    night.watch(lambda at: expiry.passwords(at.connection, datetime.now(UTC), timedelta(days=21)))
    # It changes blocks of a Prefect server: tests/access/test_rotation.py.
    night.stands_for["medallion rotate "] = lambda _: None
    night.follow("password ends", "role medallion_reader", ROLE="reader", ACCOUNT="medallion_reader")


@exercise("outbox stuck")
def test_messages_that_nobody_sends(night: Night) -> None:
    async def nobody(*_: object) -> None:
        """The watch does not get to it."""

    night.patched.setattr("flows.operations.watching.Watch._work_off", nobody)
    night.raw("insert into ops.alert_messages (channel, about, severity, subject, body, facts, due_at) "
              "values ('default', 'opened', 'error', 's', 'b', '{}', now() - interval '10 minutes')")  # fmt: skip
    night.watch(lambda at: outbox_moves(at.connection))
    night.follow("outbox stuck", "outbox")


@exercise("metrics not exported")
def test_a_port_that_is_taken(night: Night) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    night.it.watch.exporter = exporter(str(taken.getsockname()[1]))
    night.watch()
    night.round()
    night.follow("metrics not exported", "listen", hands={3: taken.close})


@exercise("clocks differ")
def test_a_clock_that_is_wrong(night: Night) -> None:
    clocks, wrong = Clocks(), [timedelta(minutes=5)]

    async def look(at: Round) -> list[Condition]:
        elapsed = at.elapsed + sum(each.total_seconds() for each in wrong)
        found = await clocks.look(datetime.now(UTC) + sum(wrong, timedelta()), elapsed, at.warehouse, None)
        return [each for each in found if each.name == "clocks differ"]

    night.watch(look)
    night.follow("clocks differ", "warehouse", hands={2: wrong.clear})


@exercise("clock jumped")
def test_a_clock_that_jumped(night: Night) -> None:
    clocks = Clocks()

    async def look(at: Round) -> list[Condition]:
        return await clocks.look(at.now, at.elapsed, None, None)

    night.watch(look)
    night.it.hands.jump(timedelta(hours=1))
    night.round()
    night.follow("clock jumped", "watch's machine", hands={2: lambda: night.round(timedelta(minutes=16))})


@exercise("watch cannot check")
def test_a_check_that_fails(night: Night) -> None:
    broken = [1]

    async def look(_: Round) -> list[Condition]:
        if broken:
            raise OSError
        return []

    night.watch(look)
    night.follow("watch cannot check", "check check 1", hands={2: broken.clear})


@contextmanager
def answering() -> Iterator[tuple[str, list[int]]]:
    """An address that answers requests with the status in the list."""
    answers = [503]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers[0])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", answers
    server.shutdown()
    server.server_close()


@exercise("watch ping fails")
def test_a_dead_mans_switch_that_does_not_answer(night: Night) -> None:
    with answering() as (url, answers):
        night.patched.setenv("MEDALLION_WATCH_PING_URL", url)
        settings.cache_clear()
        night.watch()
        for _ in range(3):
            night.round()
        night.follow("watch ping fails", "watch", hands={1: lambda: answers.__setitem__(0, 200)})


@pytest.fixture
def catalog(night: Night, tmp_path: Path) -> Catalog:
    """A store of backups, which the watch looks at; its commands ask a cluster for its data: tests/infra/backup."""
    key.make(tmp_path / "backup.key")
    night.patched.setenv("MEDALLION_BACKUP_TO", str(tmp_path / "store"))
    night.patched.setenv("MEDALLION_BACKUP_KEY_FILE", str(tmp_path / "backup.key"))
    settings.cache_clear()
    found = Catalog(FolderStore(tmp_path / "store"), "7")
    night.stands_for["medallion backup"] = lambda _: found.save(backup(datetime.now(UTC)))
    night.stands_for["medallion drill"] = lambda _: found.record_drill("a", {"began_at": datetime.now(UTC)})
    return found


def backup(ended: datetime) -> Backup:
    label = f"{ended:%Y%m%dT%H%M%SZ}"
    return Backup(
        label=label, system="7", server="18.6", timeline=1, start_lsn="0/28", end_lsn="0/190",
        began_at=ended - timedelta(minutes=1), ended_at=ended, key="age1", cluster_bytes=1, kept_bytes=1, sha256="",
        segment_bytes=16 << 20, superuser="postgres", seconds=1.0,
    )  # fmt: skip


def watch_backups(night: Night) -> None:
    async def look(_: Round) -> list[Condition]:
        return overdue(datetime.now(UTC), timedelta(hours=36), timedelta(days=9))

    night.watch(look)


@exercise("backup overdue")
def test_backups_that_are_not_made(night: Night, catalog: Catalog) -> None:
    catalog.save(backup(ago(hours=40)))
    watch_backups(night)
    night.follow("backup overdue", "backups")


@exercise("WAL archive behind")
def test_an_archive_that_is_behind(night: Night, catalog: Catalog) -> None:
    catalog.save(backup(ago(hours=1)))
    catalog.mark(Watermark(1, "0/190", ago(minutes=20)))
    watch_backups(night)
    started = Watermark(1, "0/191", datetime.now(UTC))
    night.follow("WAL archive behind", "backups", hands={2: lambda: catalog.mark(started)})


@exercise("drill overdue")
def test_drills_that_are_not_made(night: Night, catalog: Catalog) -> None:
    catalog.save(backup(ago(hours=1)))
    catalog.record_drill("a", {"began_at": ago(days=20)})
    watch_backups(night)
    night.follow("drill overdue", "backups")


@exercise("warehouse down")
def test_a_warehouse_that_is_down(night: Night, private: PrivateCluster) -> None:
    night.watch()
    private.stop()
    night.round()
    night.follow("warehouse down", "warehouse", direct=True, hands={1: lambda: private.restart("immediate")})
    # Alerts that exercises before this one left in the cluster's warehouse are sent as well.
    about = [line for line in night.it.told if line.endswith(" warehouse down warehouse")]
    assert about == ["opened warehouse down warehouse", "resolved warehouse down warehouse"]
