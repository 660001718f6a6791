"""A release and the way back, through dbt, both gates and Prefect: on a small project, which a test may spoil."""

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from rich.console import Console

from flows.cli import screens
from flows.declare import Approval
from flows.models.fingerprint import fingerprint
from flows.models.manifest import Manifest
from flows.models.rollback import RolledBack, drop_previous, roll_back_models
from flows.release import release
from flows.sources import approvals
from flows.state import dbt_manifests
from flows.transform import transform
from flows.values.errors import ConfigurationError, DataRefused, DecisionNeeded, LoadLocked
from flows.values.settings import settings
from tests.conftest import TestDatabase
from tests.flows.small_project import edit
from tests.kinds.loading import rows
from tests.publish.two_ends import run_sql

# One worker builds the shared schemas that the tests take copies of, and test_build_failures too.
pytestmark = pytest.mark.xdist_group("release")

IDLE_SECONDS = 3


@contextmanager
def idle_reader(database: TestDatabase) -> Iterator[psycopg.Connection]:
    """A reader who has read the mart and leaves the transaction open; for a minute at most, so that nothing hangs."""
    with psycopg.connect(database.url("reader"), application_name="a notebook") as reader:
        reader.execute("select * from gold.mart")
        ending = threading.Timer(60, reader.close)
        ending.start()
        try:
            yield reader
        finally:
            ending.cancel()
            reader.close()


@contextmanager
def other_readers(database: TestDatabase) -> Iterator[list[float]]:
    """Seconds that a query of the mart took, one after the other."""
    took: list[float] = []
    stop = threading.Event()

    def read() -> None:
        with psycopg.connect(database.url("reader"), autocommit=True) as reader:
            while not stop.wait(0.02):
                began = time.monotonic()
                reader.execute("select count(*) from gold.mart")
                took.append(time.monotonic() - began)

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        try:
            yield took
        finally:
            stop.set()
        reading.result(timeout=30)


def amounts(database: TestDatabase) -> list[tuple[Any, ...]]:
    """What readers see: the mart's amount, and the total that is made of it."""
    return run_sql(
        database.url("reader"), "select distinct m.amount, t.amount from gold.mart as m cross join gold.total as t"
    )


def manifest(database: TestDatabase) -> Manifest:
    """What others defer to and compare with."""

    async def newest() -> bytes:
        connection = await asyncpg.connect(database.url("loader"))
        try:
            build = await dbt_manifests.newest_build(connection)
            assert build is not None
            return await dbt_manifests.read_manifest(connection, build.run_id)
        finally:
            await connection.close()

    return Manifest.read(asyncio.run(newest()))


def roll_back(by: str = "Ada") -> RolledBack:
    return roll_back_models(by)


def test_a_release_brings_its_models_at_once_and_tells_what_they_change(
    shared: TestDatabase, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(project, "staging/stg_sale.sql", "1 as amount", "2 as amount")
    edit(project, "gold/mart.sql", "'kept' as note", "'kept' as note, 'new' as reason")

    facts = release()

    assert amounts(shared) == [(2, 20)]
    assert facts["changes"]["mart"] | {"keys_new": None} == {
        "rows_before": 10, "rows_after": 10, "columns_added": ["reason"], "columns_removed": [], "columns_retyped": [],
        "keys_new": None, "keys_gone": 0, "rows_changed": 10, "same": False,
    }  # fmt: skip
    screen = Console(record=True, width=120, file=StringIO())
    screen.print(screens.release_table(facts))
    assert re.search(r"mart +│ +10 │ +10 │.*│ 1 added", screen.export_text())
    assert rows(shared, "select release_id, released_at is not null as released, withdrawn_at from ops.releases") == [
        {"release_id": facts["release"], "released": True, "withdrawn_at": None}
    ]
    kept = manifest(shared)
    assert {relation.schema for relation in kept.relations.values()} == {"gold", "silver", "staging"}
    assert "next__" not in str(kept.content["nodes"])
    # The next ordinary run goes on from it, in place; also where only a release may change models.
    monkeypatch.setattr(settings(), "models_by_release", True)
    transform()
    assert amounts(shared) == [(2, 20)]
    assert rows(shared, "select count(*) as scores from silver.score") == [{"scores": 3}]


def test_a_release_that_its_gate_refuses_is_seen_by_nobody_and_stays_for_a_look(
    shared: TestDatabase, project: Path
) -> None:
    edit(project, "staging/stg_sale.sql", "1 as amount", "-1 as amount")

    with pytest.raises(DataRefused, match=r"1 of \d checks failed"):
        release()

    assert amounts(shared) == [(1, 10)]
    assert rows(shared, "select distinct amount from next__gold.mart") == [{"amount": -1}]
    assert rows(shared, "select count(*) as releases from ops.releases") == [{"releases": 0}]
    assert rows(shared, "select dataset from ops.check_results where outcome = 'failed'") == [
        {"dataset": "next__gold.mart"}
    ]


def test_a_release_whose_test_fails_is_seen_by_nobody(shared: TestDatabase, project: Path) -> None:
    edit(project, "gold/mart.sql", "select id,", "select id / 2 as id,")
    with pytest.raises(DataRefused, match="dbt tests failed"):
        release()
    assert amounts(shared) == [(1, 10)]


def test_a_release_that_needs_an_approval_gives_readers_only_what_was_accepted(
    shared: TestDatabase, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the yes and the run somebody edits a model: the yes was to other models."""
    monkeypatch.setattr(approvals, "APPROVALS", (Approval(settings().environment, ("release",)),))

    def accept() -> None:
        run_sql(
            shared.url("loader"),
            "select ops.answer_decision(max(decision_id), 'accept', 'anna', 'seen', 'command') from ops.decisions",
        )

    edit(project, "staging/stg_sale.sql", "1 as amount", "2 as amount")
    with pytest.raises(DecisionNeeded):
        release()
    accept()
    edit(project, "staging/stg_sale.sql", "2 as amount", "3 as amount")

    with pytest.raises(DecisionNeeded):
        release()

    assert amounts(shared) == [(1, 10)]
    open_alerts = "select name, subject from ops.alerts where resolved_at is null"
    assert rows(shared, open_alerts) == [{"name": "decision needed", "subject": "release"}]
    accept()
    number = release()["release"]
    assert amounts(shared) == [(3, 30)]
    assert number
    used = "select status, used_at is not null as used from ops.decisions order by decision_id"
    assert rows(shared, used) == [{"status": "void", "used": False}, {"status": "accepted", "used": True}]


def test_what_readers_would_lose_is_asked_about_first(shared: TestDatabase, project: Path) -> None:
    edit(project, "gold/mart.sql", ", 'kept' as note", "")
    edit(project, "staging/stg_sale.sql", "generate_series(1, 10)", "generate_series(1, 4)")

    with pytest.raises(DataRefused) as refused:
        release()

    assert "mart loses column note; mart falls from 10 to 4 rows" in refused.value.what
    assert amounts(shared) == [(1, 10)]
    release(accept_changes=True)
    assert amounts(shared) == [(1, 4)]


def test_models_that_were_withdrawn_do_not_come_back_with_the_next_run(shared: TestDatabase, project: Path) -> None:
    """The schedule goes on with the code that is deployed, an hour after somebody has rolled back at night."""
    edit(project, "staging/stg_sale.sql", "1 as amount", "2 as amount")
    number = release()["release"]
    run_sql(shared.url("transformer"), "insert into silver.score values (now(), 77)")

    done = roll_back()

    assert (done.withdrawn, done.restored) == (number, None)
    assert amounts(shared) == [(1, 10)]
    # What was remembered since the release is still known.
    assert rows(shared, "select count(*) as scores from silver.score where sales = 77") == [{"scores": 1}]
    assert "1 as amount" in manifest(shared).relations["model.medallion.stg_sale"].compiled
    with pytest.raises(DataRefused, match=rf"release {number}, which Ada withdrew"):
        transform()
    assert amounts(shared) == [(1, 10)]
    edit(project, "staging/stg_sale.sql", "2 as amount", "1 as amount")
    transform()
    assert amounts(shared) == [(1, 10)]


def test_going_back_twice_is_going_forward(shared: TestDatabase, project: Path) -> None:
    edit(project, "staging/stg_sale.sql", "1 as amount", "2 as amount")
    number = release()["release"]
    roll_back()
    done = roll_back()
    assert (done.withdrawn, done.restored) == (None, number)
    assert rows(shared, "select withdrawn_at from ops.releases") == [{"withdrawn_at": None}]
    assert "2 as amount" in manifest(shared).relations["model.medallion.stg_sale"].compiled
    assert amounts(shared) == [(2, 20)]


def test_what_a_killed_rollback_did_not_write_down_is_told_by_the_schemas(shared: TestDatabase, project: Path) -> None:
    """Killed between the exchange and its own note, it must not be undone by the next run."""
    run_sql(
        shared.url("loader"),
        "insert into ops.releases (models, changes, released_at) values (%s, '{}', now())",
        [fingerprint(project)],
    )
    run_sql(shared.url("transformer"), "create schema previous__gold")
    run_sql(shared.url("transformer"), """comment on schema previous__gold is 'medallion {"release": 1}'""")
    with pytest.raises(DataRefused, match="release 1, which an unfinished rollback withdrew"):
        transform()


def test_where_models_change_by_release_an_ordinary_run_builds_no_others(
    shared: TestDatabase, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "models_by_release", True)
    edit(project, "staging/stg_sale.sql", "1 as amount", "2 as amount")
    with pytest.raises(DataRefused, match="differ from those of readers"):
        transform()
    assert amounts(shared) == [(1, 10)]


def test_the_way_back_may_be_dropped_and_is_asked_for_in_vain_afterwards(shared: TestDatabase) -> None:
    run_sql(shared.url("transformer"), "create schema previous__gold")
    assert drop_previous() == ["gold"]
    with pytest.raises(ConfigurationError, match="no previous release"):
        roll_back()


def test_a_second_release_waits_for_the_first(shared: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.access import addresses
    from flows.state.transform_lock import transform_lock

    monkeypatch.setattr(settings(), "lock_wait_seconds", 0.2)
    with (
        transform_lock(addresses.warehouse(), wait_seconds=0),
        pytest.raises(LoadLocked, match="another transform is running"),
    ):
        release()


def test_a_transform_names_the_reader_who_keeps_a_model_from_being_replaced_and_holds_up_no_other_reader(
    shared: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALLION_BUILD_LOCK_WAIT_SECONDS", "2")
    settings.cache_clear()
    with other_readers(shared) as took, idle_reader(shared) as reader:
        with pytest.raises(LoadLocked, match=r"gold\.mart is in use: ") as caught:
            transform()
        session = f"session {reader.info.backend_pid} of medallion_reader (a notebook) with AccessShareLock since 20"
        assert session in caught.value.what
        assert "idle in transaction" in caught.value.what
        assert caught.value.retryable
        assert max(took) < 2.5, "they wait for 0.8 s at most in two seconds; the rest is for slow machines"
    (failed,) = rows(shared, "select failure_class, retryable, what from ops.errors")
    assert (failed["failure_class"], failed["retryable"]) == ("transient", True)
    transform()


def start_the_idle_timeout_once_waited_for(database: TestDatabase, reader: psycopg.Connection) -> float:
    """When the reader's time began to run out: only then, else a slow machine would let it be over before the wait."""
    waiting = "select count(*) from pg_locks where not granted and %s = any(pg_blocking_pids(pid))"
    with psycopg.connect(database.url("admin"), autocommit=True) as admin:
        until = time.monotonic() + 60
        while admin.execute(waiting, [reader.info.backend_pid]).fetchone() == (0,):
            assert time.monotonic() < until, "nobody waited for the reader"
            time.sleep(0.01)
    reader.execute(f"set idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'".encode())
    return time.monotonic()


def test_a_transform_outlasts_a_reader_whose_idle_transaction_is_ended_and_lets_others_read_meanwhile(
    shared: TestDatabase,
) -> None:
    """To queue for the lock outlasts the reader, too, but whoever wants to read waits behind it for as long."""
    with other_readers(shared) as took, idle_reader(shared) as reader, ThreadPoolExecutor(1) as pool:
        began = pool.submit(start_the_idle_timeout_once_waited_for, shared, reader)
        transform()
        assert time.monotonic() - began.result() >= IDLE_SECONDS
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            reader.execute("select 1")
        assert max(took) < IDLE_SECONDS / 2, "they wait for 0.1 s at a time; the rest is for slow machines"
