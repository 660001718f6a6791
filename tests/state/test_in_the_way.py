"""Whoever locks tables that others need is named, by `medallion status` and by a load that waited in vain."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from flows.declare import Merge
from flows.kinds.postgres import Table
from flows.values.errors import FailureClass, WarehouseError
from tests.conftest import TestDatabase
from tests.flows.front_door import Ended, medallion
from tests.kinds.loading import addresses, setting
from tests.publish.two_ends import TwoEnds, run_sql

STORES = Table("stores", key="store_id", load=Merge())
RULE = "create rule trap as on insert to {} do instead nothing"


@contextmanager
def queued(database: TestDatabase, role: str, table: str) -> Iterator[tuple[int, int]]:
    """Two sessions of the role: one has read the table, one waits for its strongest lock. Gives their process ids."""
    with (
        psycopg.connect(database.url(role), application_name="reads") as holder,
        psycopg.connect(database.url(role), application_name="waits", autocommit=True) as asker,
    ):
        holder.execute(f"select * from {table}".encode())
        asker.execute("set lock_timeout = 0")
        waiting = threading.Thread(target=refused, args=(asker, RULE.format(table)))
        waiting.start()
        try:
            until = time.monotonic() + 20
            pids = (holder.info.backend_pid, asker.info.backend_pid)
            while (
                run_sql(database.url("admin"), "select pid from pg_locks where pid = %s and not granted", pids[1:])
                == []
            ):
                assert time.monotonic() < until
                time.sleep(0.02)
            yield pids
        finally:
            holder.rollback()
            waiting.join(timeout=20)


def refused(session: psycopg.Connection, statement: str) -> None:
    with pytest.raises(psycopg.Error):
        session.execute(statement.encode())


def status(warehouse: TestDatabase, shop: TestDatabase) -> tuple[Ended, float]:
    began = time.monotonic()
    ended = medallion("status", variables=dict(addresses(warehouse, shop)) | {"PREFECT_API_URL": ""}, timeout=100)
    return ended, time.monotonic() - began


def test_status_does_not_hang_behind_a_locked_table_and_names_who_locks_it(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    with psycopg.connect(warehouse.url("admin"), application_name="an upgrade by hand") as admin:
        admin.execute("lock table ops.loads in access exclusive mode")
        pid = admin.info.backend_pid
        ended, seconds = status(warehouse, shop)
    assert (ended.code, "Traceback" in ended.text) == (3, False)
    assert f"session {pid} of medallion_admin (an upgrade by hand) with ops.loads since 20" in ended.panel
    assert f"select pg_terminate_backend({pid});" in ended.panel
    assert seconds < 60  # without the limit, for ever; the program itself takes 8 s, and more on a busy machine
    assert status(warehouse, shop)[0].code == 0


def test_status_names_who_waits_with_others_behind_and_who_keeps_that_one(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    with queued(warehouse, "transformer", "ops.runs") as (holder, asker):
        ended, _ = status(warehouse, shop)
    assert ended.code == 3
    for session in (
        f"session {asker} of medallion_transformer (waits) with ops.runs since 20",
        f"session {holder} of medallion_transformer (reads) with ops.runs since 20",
    ):
        assert session in ended.panel
    assert "waiting for AccessExclusiveLock" in ended.panel
    assert ended.panel.index("(waits)") < ended.panel.index("(reads)")


async def test_a_load_behind_a_queue_names_it_and_finishes_once_it_is_gone(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    """The transformer reads raw, so it can do what reviews could where there are no event triggers."""
    ends = TwoEnds(warehouse, shop)
    with setting(table_lock_wait_seconds=1):  # already before the first load, whose session the second takes over
        await ends.load(STORES)
    ends.source("update stores set name = 'another', updated_at = now()")
    with queued(warehouse, "transformer", "raw_shop.stores") as (holder, asker):
        with setting(table_lock_wait_seconds=1), pytest.raises(WarehouseError) as failed:
            await ends.load(STORES)
        error = failed.value
        assert (error.failure_class, error.retryable) == (FailureClass.TRANSIENT, True)
        assert f"session {asker} of medallion_transformer (waits) with raw_shop.stores since 20" in error.what
        assert f"session {holder} of medallion_transformer (reads)" in error.what
        assert f"select pg_terminate_backend({asker});" in error.fix
        recorded = run_sql(warehouse.url("loader"), "select what from ops.errors")
        assert recorded == [(error.what,)]
        run_sql(warehouse.url("admin"), "select pg_terminate_backend(%s, 5000)", [asker])
        assert (await ends.load(STORES)).counts.rows_updated > 0
