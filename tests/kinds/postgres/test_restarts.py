"""A source that is restarted, crashes, follows a primary, or becomes one, while it is read."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import psycopg
import pytest

from flows.declare import Append, Merge, Sequence, Timestamp, TransactionId
from flows.failures.diagnose import diagnose
from flows.kinds.postgres import Database, Table
from flows.kinds.postgres.large.chunks import ChunkJob, stage_chunk
from flows.state.reads import Chunk
from flows.values.connection import DatabaseConnection
from flows.values.errors import FailureClass, MedallionError, SourceUnavailable, WarehouseError
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.kinds.loading import setting
from tests.kinds.postgres.invariants import differing, load, six_invariants
from tests.nightly import nightly
from tests.private_cluster import PrivateCluster, private_cluster
from tests.publish.two_ends import TwoEnds

# One worker runs all of them, in this order, on one primary with one standby.
pytestmark = pytest.mark.xdist_group("restarts")

SOURCE = Database(
    "shop",
    connection="shop",
    tables=[
        Table("large", key="id", cursor=Timestamp("at"), load=Merge(), deletes=True),
        Table("traced", key="id", cursor=TransactionId(), load=Merge(), deletes=True),
        Table("numbered", key="id", cursor=Sequence("id"), load=Append()),
    ],
)
LARGE = {"medium_load_mb": 1, "large_load_mb": 1, "load_readers": 3, "chunk_min_mb": 0.5, "chunk_max_mb": 1}


@dataclass(frozen=True)
class Servers:
    """A primary with a table that is still under way when its first bytes have arrived, and its standby."""

    primary: PrivateCluster
    standby: PrivateCluster
    shop: TestDatabase
    on_standby: TestDatabase

    @property
    def addresses(self) -> str:
        """Both servers in one URL, as libpq has it."""
        port, other = self.shop.cluster.port, self.on_standby.cluster.port
        return self.shop.url("extractor").replace(f"127.0.0.1:{port}", f"127.0.0.1:{port},127.0.0.1:{other}")

    def catch_up(self) -> None:
        """Wait until the standby has what the primary has."""
        self._wait("pg_last_wal_replay_lsn()")

    def hand_over(self) -> None:
        """Wait until the standby was told what the primary did; whether it can do the same is another matter."""
        self._wait("pg_last_wal_receive_lsn()")
        time.sleep(0.2)

    def _wait(self, reached_there: str) -> None:
        with (
            psycopg.connect(self.shop.url("admin")) as primary,
            psycopg.connect(self.on_standby.url("admin"), autocommit=True) as standby,
        ):
            (reached,) = primary.execute("select pg_current_wal_lsn()").fetchone() or ("",)
            for _ in range(500):
                # The standby may end this session's statement, too, to go on with its recovery.
                with contextlib.suppress(psycopg.errors.SerializationFailure):
                    behind = standby.execute(f"select %s::pg_lsn > {reached_there}".encode(), [reached]).fetchone()
                    if behind == (False,):
                        return
                time.sleep(0.02)
        raise AssertionError("the standby does not follow")


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    # A commit is in the log when it returns, so that catching up can be waited for.
    with private_cluster({"synchronous_commit": "on"}) as primary:
        shop = primary.shop("shop_large")
        with psycopg.connect(shop.url("app")) as app:
            app.execute(
                "create table large (id bigint primary key, v int, at timestamptz default now(), filler text);"
                "insert into large select n, n, now() - interval '1 h', repeat(md5(n::text), 15) "
                "from generate_series(1, 25000) as n;"
                "create table traced as select id, v from large where id <= 500;"
                "alter table traced add primary key (id);"
                "create table numbered (id bigint generated always as identity primary key, v int);"
                "insert into numbered (v) values (1), (2); analyze large"
            )
        # Without waiting for its queries, the standby takes over what the primary has cleaned up.
        standby = primary.standby({"max_standby_streaming_delay": "0"})
        yield Servers(primary, standby, shop, replace(shop, cluster=standby.cluster))


def once(do: Callable[[], object]) -> Callable[[str, int], None]:
    """Something that happens when the first bytes have arrived."""
    done: list[int] = []

    def on_progress(_: str, received: int) -> None:
        if not done:
            done.append(received)
            do()

    return on_progress


async def load_large(ends: TwoEnds, on_progress: Callable[[str, int], None]) -> None:
    await load_table(ends.warehouse_address, ends.shop_address, SOURCE, SOURCE.table("large"), on_progress=on_progress)


def is_transient(problem: MedallionError) -> bool:
    return problem.retryable and diagnose(problem, "").failure_class is FailureClass.TRANSIENT


@pytest.mark.parametrize("mode", ["immediate", *nightly("fast")])
async def test_a_source_restarted_in_the_middle_of_a_copy_is_transient(
    warehouse: TestDatabase, servers: Servers, mode: str
) -> None:
    ends = TwoEnds(warehouse, servers.shop)
    async with six_invariants(ends, SOURCE, "large"):
        with pytest.raises(SourceUnavailable) as caught:
            await load_large(ends, once(lambda: servers.primary.restart(mode)))

        assert is_transient(caught.value)
        assert ends.raw("select to_regclass('raw_shop.large')") == [(None,)]


@pytest.mark.parametrize("mode", ["fast", *nightly("immediate")])
async def test_a_source_restarted_between_chunks_goes_on_from_those_that_committed(
    warehouse: TestDatabase, servers: Servers, mode: str
) -> None:
    ends, started = TwoEnds(warehouse, servers.shop), 0

    async def run(job: ChunkJob) -> Chunk:
        nonlocal started
        started += 1
        if started == 7:
            servers.primary.restart(mode)
        return await stage_chunk(ends.warehouse_address, ends.shop_address, SOURCE, SOURCE.table("large"), job)

    with setting(**LARGE):
        async with six_invariants(ends, SOURCE, "large"):
            with pytest.raises(MedallionError) as caught:
                await load_table(
                    ends.warehouse_address, ends.shop_address, SOURCE, SOURCE.table("large"), run_chunk=run
                )
            assert is_transient(caught.value)
            kept = ends.raw("select lower_step, rows, committed_at from ops.chunks where attempt = 1")
            assert kept

    assert ends.raw("select lower_step, rows, committed_at from ops.chunks where attempt = 1") == kept
    assert ends.raw("select count(*), max(attempt) from ops.reads") == [(1, 2)], "the same read went on"


async def test_rows_arrive_from_a_standby_with_a_warning_where_it_hides_something(
    warehouse: TestDatabase, servers: Servers
) -> None:
    ends = TwoEnds(warehouse, servers.shop)
    standby = TwoEnds(warehouse, servers.on_standby)
    with psycopg.connect(servers.shop.url("app")) as late:
        late.execute("update traced set v = -1 where id = 7")
        servers.catch_up()
        first = {table.name: await load(standby, SOURCE, table.name) for table in SOURCE.tables}
        ends.source("update large set v = v + 1, at = now() where id % 100 = 1; insert into numbered (v) values (3)")
        late.commit()
    servers.catch_up()
    with setting(**LARGE):
        second = await load(standby, SOURCE, "large")
    later = [await load(standby, SOURCE, name) for name in ("traced", "numbered")]

    assert "standby" in str(first["large"].warning)
    assert "standby" in str(first["numbered"].warning)
    assert first["traced"].warning is None, "a snapshot shows what the primary has under way, on a standby too"
    assert second.counts.rows_updated == 250
    assert {result.counts.reconciliation for result in (second, *later)} == {"match"}
    assert not [name for name in ("large", "traced", "numbered") if any(differing(ends, SOURCE.table(name)))]


async def test_what_a_standby_shows_late_is_not_lost(warehouse: TestDatabase, servers: Servers) -> None:
    """A standby that is behind does not show what its primary has committed: the cursor waits for it."""
    ends, standby = TwoEnds(warehouse, servers.shop), TwoEnds(warehouse, servers.on_standby)
    servers.catch_up()
    await load(standby, SOURCE, "large")
    with psycopg.connect(servers.on_standby.url("admin"), autocommit=True) as admin:
        admin.execute("select pg_wal_replay_pause()")
        ends.source("update large set v = -17, at = now() where id = 17; select pg_sleep(1.2)")  # past the guard
        behind = await load(standby, SOURCE, "large")
        admin.execute("select pg_wal_replay_resume()")
    servers.catch_up()

    assert behind.counts.rows_updated == 0
    assert (await load(standby, SOURCE, "large")).counts.rows_updated == 1
    assert differing(ends, SOURCE.table("large")) == ({}, {})


async def test_a_table_is_read_in_chunks_from_a_standby(warehouse: TestDatabase, servers: Servers) -> None:
    servers.catch_up()
    with setting(**LARGE):
        result = await load(TwoEnds(warehouse, servers.on_standby), SOURCE, "large")

    assert (result.chunks > 4, result.counts.reconciliation) == (True, "match")
    assert differing(TwoEnds(warehouse, servers.shop), SOURCE.table("large")) == ({}, {})


async def test_a_read_that_stands_in_the_way_of_a_standbys_recovery_is_tried_again(
    warehouse: TestDatabase, servers: Servers
) -> None:
    """The primary has cleaned up rows that the read still sees: the standby ends the read, with 40001."""
    servers.catch_up()
    ends, primary = TwoEnds(warehouse, servers.on_standby), TwoEnds(warehouse, servers.shop)

    def clean_up() -> None:
        with psycopg.connect(servers.shop.url("app"), autocommit=True) as app:
            for part in range(3):  # a vacuum of the server's own may have held rows back
                app.execute("delete from large where id between %s and %s", [200 * part, 200 * part + 190])
                app.execute("vacuum large")
        servers.hand_over()

    with pytest.raises(SourceUnavailable, match="40001") as caught:
        await load_large(ends, once(clean_up))

    assert is_transient(caught.value)
    servers.catch_up()
    result = await load(ends, SOURCE, "large")
    assert result.counts.reconciliation == "match"
    assert differing(primary, SOURCE.table("large")) == ({}, {})


async def test_a_warehouse_that_has_become_a_standby_is_transient(servers: Servers, shop: TestDatabase) -> None:
    """An address that still leads to the old primary after a failover: everything there is read-only, 25006."""
    warehouse = servers.primary.warehouse("warehouse_followed")
    servers.catch_up()
    following = TestDatabase(warehouse.name, servers.standby.cluster, warehouse.roles)
    declared = Database("shop", connection="shop", tables=[Table("stores", key="store_id", load=Merge())])

    with pytest.raises(WarehouseError, match="25006") as caught:
        await load(TwoEnds(following, shop), declared, "stores")

    assert is_transient(caught.value)
    assert (await load(TwoEnds(warehouse, shop), declared, "stores")).counts.reconciliation == "match"


async def test_a_standby_that_is_behind_what_its_primary_has_shown_is_waited_for(
    warehouse: TestDatabase, servers: Servers
) -> None:
    """One address for both: a load reads the primary, and the next one a standby that has not replayed as much."""
    ends, standby = TwoEnds(warehouse, servers.shop), TwoEnds(warehouse, servers.on_standby)
    servers.catch_up()
    with psycopg.connect(servers.on_standby.url("admin"), autocommit=True) as admin:
        admin.execute("select pg_wal_replay_pause()")
        ends.source("insert into numbered (v) values (44); update traced set v = 44 where id = 44")
        for name in ("traced", "numbered"):
            await load(ends, SOURCE, name)
            with pytest.raises(SourceUnavailable, match="has not yet replayed") as caught:
                await load(standby, SOURCE, name)
            assert is_transient(caught.value)
        admin.execute("select pg_wal_replay_resume()")
    servers.catch_up()

    later = [await load(standby, SOURCE, name) for name in ("traced", "numbered")]

    assert [result.strategy for result in later] == ["merge", "append"]
    assert {result.counts.reconciliation for result in later} == {"match"}


async def test_after_a_failover_the_new_primary_is_read_from_the_beginning_once(
    warehouse: TestDatabase, servers: Servers
) -> None:
    """The last of this file: the primary dies in the middle of a read, and its standby takes its place.

    Nothing says whether the standby had all that the primary has shown, and its timeline is another one.
    """
    ends = TwoEnds(warehouse, servers.shop)
    for table in SOURCE.tables:
        await load(ends, SOURCE, table.name)
    ends.source(
        "update large set v = -v, at = now(); update traced set v = -v where id % 3 = 0;"
        "delete from traced where id = 9; insert into numbered (v) values (4)"
    )
    servers.catch_up()

    def fail_over() -> None:
        servers.primary.stop()
        servers.standby.promote()

    either = DatabaseConnection("shop", f"{servers.addresses}?target_session_attrs=primary")

    async def load_either(name: str, on_progress: Callable[[str, int], None] | None = None) -> tuple[str, str | None]:
        result = await load_table(ends.warehouse_address, either, SOURCE, SOURCE.table(name), on_progress=on_progress)
        return result.strategy, result.counts.reconciliation

    with pytest.raises(SourceUnavailable) as caught:
        await load_either("large", once(fail_over))

    assert is_transient(caught.value)
    assert [await load_either(table.name) for table in SOURCE.tables] == [("reload", "match")] * 3
    assert [await load_either(table.name) for table in SOURCE.tables] == [
        ("merge", "match"), ("merge", "match"), ("append", "match")
    ]  # fmt: skip
    async with six_invariants(TwoEnds(warehouse, servers.on_standby), SOURCE):
        run = TwoEnds(warehouse, servers.on_standby)
        run.source("update large set v = v + 7, at = now() where id % 50 = 0; insert into numbered (v) values (5)")
