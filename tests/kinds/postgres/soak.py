"""Many sessions write while loads run again and again: `python -m tests.kinds.postgres.soak --seconds 600`.

Writers insert, update and delete in transactions of several statements, roll back, undo half of it, prepare, and commit
late; some commit only after loads have passed over what they hold. When all is quiet, source = raw for every table.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg

from flows.declare import Append, Merge, Replace, Rule, Sequence, Timestamp, TransactionId
from flows.kinds.postgres import Database, Table
from flows.values.errors import MedallionError
from tests.conftest import fresh_shop, fresh_warehouse
from tests.kinds.loading import setting
from tests.kinds.postgres.invariants import Reader, at_rest, differing, image, load, reading
from tests.private_cluster import private_cluster
from tests.publish.two_ends import TwoEnds

DOOR = (Rule("not_negative", "v >= 0"),)

SOURCE = Database(
    "shop",
    connection="shop",
    tables=[
        Table(
            "stamped",
            key="id",
            cursor=Timestamp("at"),
            load=Merge(),
            deletes=True,
            max_deleted=1,
            rules=DOOR,
            max_quarantined=1,
        ),
        Table("lagging", key="id", cursor=Timestamp("at", lag="3 s"), load=Merge(), deletes=True, max_deleted=1),
        Table(
            "traced",
            key="id",
            cursor=TransactionId(),
            load=Merge(),
            deletes=True,
            max_deleted=1,
            rules=DOOR,
            max_quarantined=1,
        ),
        Table("whole", key="id", load=Merge(), deletes=True, max_deleted=1),
        Table("numbered", key="id", cursor=Sequence("id"), load=Append()),
        Table("keyless", cursor=Sequence("id"), load=Append(), rules=DOOR, max_quarantined=1),
        Table("logged", key="id", cursor=Timestamp("at"), load=Append()),
        Table("replaced", key="id", load=Replace(min_share=0)),
        Table("accounts", key="id", load=Replace(min_share=0)),
    ],
)
CHANGING = ("stamped", "lagging", "traced", "whole", "replaced")
GROWING = ("numbered", "keyless", "logged")
# Where every statement stamps the row: an application's clock that is behind, or the transaction's beginning.
STAMP = {"lagging": "clock_timestamp() - random() * interval '1 s'"}
ROWS, ACCOUNTS, RESERVED = 600, 300, 20
# Chunks of 20 to 200 rows; reads of a few hundred are large, and shared by three readers.
SMALL = {"medium_load_mb": 0.001, "large_load_mb": 0.03, "load_readers": 3, "chunk_min_mb": 0.001, "chunk_max_mb": 0.01}


@dataclass
class Tally:
    """What a soak did."""

    loads: int = 0
    failed: int = 0
    commits: int = 0
    rollbacks: int = 0
    late: int = 0
    written: int = 0
    chunks: int = 0
    published_by_window: set[str] = field(default_factory=set)
    gathered_in_chunks: set[str] = field(default_factory=set)
    healed: int = 0

    def __str__(self) -> str:
        return (
            f"{self.loads} loads in {self.chunks} chunks, {self.failed} tried again; {self.commits} commits "
            f"({self.late} after loads had passed over them), {self.rollbacks} rollbacks, {self.written} rows written"
        )


class Soak:
    """A source full of writers, and a warehouse that is loaded from it meanwhile."""

    def __init__(self, ends: TwoEnds, *names: str, seed: int = 1, writers: int = 3) -> None:
        self.ends, self.tally = ends, Tally()
        self.tables = [table for table in SOURCE.tables if not names or table.name in names]
        known = {table.name for table in self.tables}
        self._changing = [name for name in CHANGING if name in known]
        self._growing = [name for name in GROWING if name in known]
        self._seed, self._writers = seed, writers
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._broken: list[BaseException] = []
        for table in self.tables:
            ends.source(
                f"create table {table.name} (id bigint generated always as identity primary key, v int not null, "
                f"at timestamptz not null default now(), note text default repeat('x', 20)); "
                f"create index on {table.name} (at);"
                f"insert into {table.name} (v, at) select 100, now() - interval '1 h' "
                f"from generate_series(1, {ACCOUNTS if table.name == 'accounts' else ROWS}); analyze {table.name}"
            )

    # -- writers

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Writers at work for as long as the block lasts; then all of them have ended their transactions."""
        work = [*[self._write] * self._writers, self._write_late, self._analyze]
        if any(table.name == "accounts" for table in self.tables):
            work.append(self._transfer)
        threads = [threading.Thread(target=self._guarded, args=(one, n)) for n, one in enumerate(work)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        assert self._broken == []

    def _guarded(self, work: object, number: int) -> None:
        try:
            with psycopg.connect(self.ends.shop.url("app")) as session:
                assert callable(work)
                work(session, random.Random(self._seed * 100 + number))
        except BaseException as problem:
            self._broken.append(problem)

    def _write(self, session: psycopg.Connection, chance: random.Random) -> None:
        while not self._stop.is_set():
            try:
                for _ in range(chance.randint(1, 5)):
                    self._statement(session, chance)
                if chance.random() < 0.15:
                    session.execute("savepoint half")
                    self._statement(session, chance)
                    session.execute("rollback to savepoint half")
                if chance.random() < 0.3:
                    self._stop.wait(chance.random() * 0.4)
                self._end(session, chance)
            except (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable):
                session.rollback()
            self._stop.wait(chance.random() * 0.02)

    def _end(self, session: psycopg.Connection, chance: random.Random) -> None:
        if chance.random() < 0.12:
            session.rollback()
            self._count(rollbacks=1)
        elif chance.random() < 0.03:
            name = f"prepared-{threading.get_ident()}"
            session.execute(f"prepare transaction '{name}'".encode())
            session.commit()
            self._stop.wait(0.3)
            session.autocommit = True
            session.execute(f"commit prepared '{name}'".encode())
            session.autocommit = False
            self._count(commits=1)
        else:
            session.commit()
            self._count(commits=1)

    def _statement(self, session: psycopg.Connection, chance: random.Random) -> None:
        kind = chance.choice(("insert", "update", "update", "delete"))
        value = chance.choice((0, 1, 2, 3, 4, -1))
        if kind == "insert":
            table = chance.choice(self._changing + self._growing)
            value = value if table in {"stamped", "traced", "keyless"} else abs(value)
            done = session.execute(
                f"insert into {table} (v, at) select {value}, {STAMP.get(table, 'now()')} "
                f"from generate_series(1, {chance.randint(1, 8)})".encode()
            )
        else:
            table = chance.choice(self._changing)
            value = value if table in {"stamped", "traced"} else abs(value)
            row = (
                f"id in (select id from {table} where id > {RESERVED} order by random() limit 5 for update skip locked)"
            )
            change = f"update {table} set v = {value}, at = {STAMP.get(table, 'now()')}"
            statement = change if kind == "update" else f"delete from {table}"
            done = session.execute(f"{statement} where {row}".encode())
        self._count(written=done.rowcount)

    def _write_late(self, session: psycopg.Connection, chance: random.Random) -> None:
        """Change a row of each table that nobody else touches, and commit when loads have passed over all of them."""
        place = 0
        while not self._stop.is_set():
            place = place % RESERVED + 1
            for table in self._changing:
                session.execute(f"update {table} set v = v + 1, at = now() where id = {place}".encode())
            for table in self._growing:
                session.execute(f"insert into {table} (v) values (5)".encode())
            self._overtake()
            passed = self._wait_for_loads()
            session.commit()
            self._count(commits=1, late=passed, written=len(self._changing) + len(self._growing))
            self._stop.wait(chance.random() * 0.2)

    def _overtake(self) -> None:
        """Commit a higher id than the late ones, however busy the machine keeps the other writers."""
        with psycopg.connect(self.ends.shop.url("app"), autocommit=True) as quick:
            for table in self._growing:
                quick.execute(f"insert into {table} (v) values (6)".encode())
        self._count(commits=len(self._growing), written=len(self._growing))

    def _wait_for_loads(self) -> int:
        """Until every table was loaded once, from beginning to end, after other sessions had committed something."""
        with psycopg.connect(self.ends.warehouse.url("admin"), autocommit=True) as ledger:
            (moment,) = ledger.execute("select clock_timestamp()").fetchone() or (None,)
            while not self._stop.wait(0.02):
                (passed,) = ledger.execute(
                    "select count(distinct table_name) from ops.loads where status = 'published' and started_at > %s "
                    "and table_name = any (%s)",
                    [moment, [*self._changing, *self._growing]],
                ).fetchone() or (0,)
                if passed == len(self._changing) + len(self._growing):
                    return 1
        return 0

    def _analyze(self, session: psycopg.Connection, chance: random.Random) -> None:
        """Statistics say how much a read will bring, and so how it is cut."""
        session.autocommit = True
        names = ", ".join(table.name for table in self.tables)
        while not self._stop.wait(0.2 + chance.random() * 0.3):
            session.execute(f"analyze {names}".encode())

    def _transfer(self, session: psycopg.Connection, chance: random.Random) -> None:
        """Money goes from one account to another: whoever reads the sum reads the same sum at any time."""
        while not self._stop.is_set():
            one, other = sorted(chance.sample(range(1, ACCOUNTS + 1), 2))
            session.execute("update accounts set v = v - 1 where id = %s", [one])
            session.execute("update accounts set v = v + 1 where id = %s", [other])
            session.commit()
            self._count(commits=1, written=2)
            self._stop.wait(0.005)

    def _count(self, **numbers: int) -> None:
        with self._lock:
            for name, number in numbers.items():
                setattr(self.tally, name, getattr(self.tally, name) + number)

    # -- loads

    async def load_for(self, seconds: float, *, at_least_late: int = 1) -> None:
        """Load all tables, three at a time, until the time is over and late commits have happened."""
        ends_at, gives_up = time.monotonic() + seconds, time.monotonic() + seconds + 60
        while time.monotonic() < ends_at or self.tally.late < at_least_late:
            assert time.monotonic() < gives_up, "no late commit was ever passed over"
            names = iter([table.name for table in self.tables])
            await asyncio.gather(*(self._load_each(names) for _ in range(3)))

    async def _load_each(self, names: Iterator[str]) -> None:
        for name in names:
            try:
                result = await load(self.ends, SOURCE, name)
            except MedallionError as problem:
                if not problem.retryable:
                    raise
                self.tally.failed += 1
                continue
            self.tally.loads += 1
            self.tally.chunks += result.chunks
            self.tally.healed += result.strategy == "reload"

    async def settle(self) -> None:
        """Two loads of everything after the last commit: a sequence's cursor moves once everything has ended."""
        await asyncio.sleep(0.1)
        for _ in range(2):
            for table in self.tables:
                await load(self.ends, SOURCE, table.name)

    def note_paths(self) -> None:
        """Which tables were published window by window, and which were gathered in chunks and published at once."""
        windows = self.ends.raw("select distinct table_name from ops.loads where reconciliation = 'incomplete'")
        chunks = self.ends.raw("select distinct table_name from ops.reads inner join ops.loads using (batch_id)")
        self.tally.published_by_window = {name for (name,) in windows}
        self.tally.gathered_in_chunks = {name for (name,) in chunks}

    def lost(self) -> set[str]:
        """Tables whose rows in raw and quarantine are not those of the source."""
        return {table.name for table in self.tables if any(differing(self.ends, table))}

    async def check(self, reader: Reader) -> None:
        """All six invariants, at rest."""
        reader.saw_nothing_partial()
        for table in self.tables:
            at_rest(self.ends, SOURCE, table)
        before = [image(self.ends, table.name) for table in self.tables]
        for table in self.tables:
            assert (await load(self.ends, SOURCE, table.name)).counts.changed == 0, table.name
        assert [image(self.ends, table.name) for table in self.tables] == before


#: What a reader of raw must find whenever it looks.
CONSTANT_SUM = f"select sum(v) = {ACCOUNTS * 100} and count(*) = {ACCOUNTS} from raw_shop.accounts"


async def soak(ends: TwoEnds, seconds: float, *, seed: int = 1, writers: int = 3) -> Tally:
    """Write and load for so many seconds, then check all six invariants."""
    here = Soak(ends, seed=seed, writers=writers)
    with setting(**SMALL):
        for table in SOURCE.tables:
            await load(ends, SOURCE, table.name)
        with reading(ends.warehouse, list(SOURCE.tables), CONSTANT_SUM) as reader:
            with here.writing():
                await here.load_for(seconds)
            await here.settle()
        await here.check(reader)
    here.note_paths()
    return here.tally


def main() -> None:
    """The long form, on a PostgreSQL of its own."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--writers", type=int, default=6)
    chosen = parser.parse_args()
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(private_cluster()).cluster
        ends = TwoEnds(stack.enter_context(fresh_warehouse(cluster)), stack.enter_context(fresh_shop(cluster)))
        tally = asyncio.run(soak(ends, chosen.seconds, seed=chosen.seed, writers=chosen.writers))
    sys.stdout.write(
        f"seed {chosen.seed}: {tally}\npublished by window: {', '.join(sorted(tally.published_by_window))}; "
        f"gathered in chunks: {', '.join(sorted(tally.gathered_in_chunks))}; read whole to mend: {tally.healed}\n"
    )


if __name__ == "__main__":
    main()
