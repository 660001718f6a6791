"""Many writers, changes of tables, and processes that are killed: at rest, raw is the source, row for row."""

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import ROOT
from tests.kinds.changelog.follow.soaked import TABLES
from tests.kinds.changelog.followed import catch_up
from tests.kinds.changelog.log_ends import LogEnds, drop_slots, restart_source
from tests.kinds.changelog.test_changes import LONG

SECONDS = float(os.environ.get("MEDALLION_SOAK_SECONDS", "90"))
WRITERS = 20
#: What many writers at once meet, and an application repeats.
_PASSING = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.UniqueViolation,
    psycopg.errors.CardinalityViolation,
    psycopg.errors.LockNotAvailable,
    psycopg.OperationalError,
)


def statement(draw: random.Random) -> str:
    """One change of a few keys, so that writers meet."""
    key, other, value = draw.randrange(1, 60), draw.randrange(1, 60), draw.randrange(1000)
    table = draw.choice(["items", "others"])
    long = LONG.replace("n::", f"{value}::")
    return draw.choice(
        [
            f"insert into {table} values ({key}, {value}, {long}) on conflict do nothing",
            f"insert into {table} values ({key}, {value}, 'short') on conflict (id) do update "
            f"set amount = excluded.amount",
            f"update {table} set amount = {value} where id = {key}",
            f"update {table} set amount = {value} where id between {key} and {other}",
            f"update {table} set note = {long} where id = {key}",
            f"update {table} set id = {other} where id = {key} and not exists (select from {table} where id = {other})",
            f"delete from {table} where id = {key}",
            f"savepoint s; delete from {table} where id > {key}; rollback to s",
            f"insert into parted values ({key}, {value % 3}, {value}) on conflict (id, part) do update set amount = 1",
            f"update parted set part = (part + 1) % 3 where id = {key} and not exists "
            f"(select from parted as p where p.id = {key} and p.part <> parted.part)",
            f"delete from parted where id = {key}",
        ]
    )


def rare(draw: random.Random, number: int) -> str:
    """A change of a table."""
    table = draw.choice(["items", "others"])
    return draw.choice(
        [
            f"truncate {table}",
            f"alter table {table} add column more_{number} text",
            f"alter table {table} add column more_{number} text default 'x'",
            f"alter table {table} replica identity {draw.choice(['full', 'default'])}",
            f"insert into {table} select n, n, 'many' from generate_series(1000, 30000) as n on conflict do nothing; "
            f"delete from {table} where id >= 1000",
        ]
    )


def write(ends: LogEnds, seed: int, until: float, *, alters: bool) -> None:
    """Transactions, one after the other, over a session that is opened again when it is lost."""
    draw, number = random.Random(seed), 0
    while time.monotonic() < until:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(ends.shop.url("app")) as session:
            session.autocommit = True
            session.execute("set lock_timeout = '2s'")
            while time.monotonic() < until:
                number += 1
                changes = "; ".join(statement(draw) for _ in range(draw.randrange(1, 5)))
                ending = draw.choice(["commit", "commit", "commit", "rollback"])
                if alters:
                    time.sleep(2)
                    changes, ending = rare(draw, number), "commit"
                with contextlib.suppress(*_PASSING):
                    session.execute(f"begin; {changes}; {ending}".encode())
                    continue
                session.execute("rollback")


@contextlib.contextmanager
def following_process(ends: LogEnds) -> Iterator[subprocess.Popen[bytes]]:
    """A process that follows, until it is killed."""
    variables = {
        **os.environ,
        "MEDALLION_SOURCE_SHOP_URL": ends.shop.url("extractor"),
        "MEDALLION_WAREHOUSE_URL": ends.warehouse.url("loader"),
        "PYTHONPATH": str(ROOT),
    }
    module = "tests.kinds.changelog.follow"
    process = subprocess.Popen(
        [sys.executable, "-m", f"{module}.one_follow", f"{module}.soaked", "stays"], env=variables
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
async def test_at_rest_raw_is_the_source(ends: LogEnds, seed: int) -> None:
    draw = random.Random(seed)
    ends.tables.extend(TABLES)
    for name in ("items", "others"):
        ends.source(f"create table {name} (id bigint primary key, amount int, note text)")
        ends.source(f"insert into {name} select n, n, {LONG} from generate_series(1, 30) as n")
    ends.source(
        "create table parted (id bigint, part int, amount int, primary key (id, part)) partition by list (part)"
    )
    for part in range(3):
        ends.source(f"create table parted_{part} partition of parted for values in ({part})")
    ends.source("grant select on all tables in schema public to public")
    await ends.set_up()
    until = time.monotonic() + SECONDS
    writers = [
        threading.Thread(target=write, args=(ends, 100 * seed + number, until), kwargs={"alters": number == 0})
        for number in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    while time.monotonic() < until:
        with following_process(ends) as process:
            time.sleep(draw.uniform(4, 15))  # noqa: ASYNC251 - nothing else runs in this loop
            assert process.poll() is None, "it must not end by itself"
            if draw.random() < 0.3:
                process.terminate()
                assert process.wait(20) == 0
        match draw.randrange(5):
            case 0:
                drop_slots(ends.shop)
            case 1:
                restart_source()
    for writer in writers:
        writer.join()

    await catch_up(ends)

    assert [name for name in ("items", "others", "parted") if not ends.same(name)] == []
    for table in ("items", "others", "parted"):
        assert (await ends.load(table)).counts.reconciliation == "match"
        assert (await ends.compare(table)).result == "match"
    ((changes, follows),) = ends.raw(
        "select sum(inserts + updates + deletes)::int, count(*) from ops.change_counts inner join ops.loads "
        "using (batch_id) where strategy = 'follow'"
    )
    assert changes > 1_000
    assert follows > 3
