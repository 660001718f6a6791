"""What is lost when everything is lost: measured by drills, and brought back from the sources."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

import psycopg
import pytest

from flows.declare.partition import Partition
from flows.kinds.answers import Ends
from flows.kinds.postgres.backfill import backfill_partition
from flows.sources.shop import shop as declared_shop
from flows.verbs.catch_up import catch_up
from infra.backup.checks import warehouse_of
from infra.backup.drill import drill, refuse_missed
from infra.backup.errors import ServerRefused, TargetMissed
from infra.backup.recover import Recovered
from tests.conftest import WAREHOUSE_ROLES, TestDatabase
from tests.flows.front_door import medallion
from tests.flows.scripted_api import ScriptedApi
from tests.infra.backup.conftest import Backed
from tests.kinds.loading import CHANGES, change, loads, setting
from tests.kinds.postgres.invariants import at_rest
from tests.publish.two_ends import TwoEnds

pytestmark = pytest.mark.xdist_group("backup")


@dataclass(frozen=True)
class RecoveredDatabase(TestDatabase):
    """The recovered warehouse, as the platform's roles see it."""

    found: Recovered | None = field(default=None, repr=False)

    def url(self, role: str) -> str:
        assert self.found is not None
        return self.found.cluster.url(self.roles[role], self.name)


@pytest.fixture(scope="module")
def api() -> Iterator[ScriptedApi]:
    with ScriptedApi() as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDALLION_SOURCE_MARKETING_URL", running.url)
        patch.setenv("MEDALLION_SOURCE_MARKETING_KEY", running.key)
        yield running


def commit(backed: Backed) -> datetime:
    """Commit something, and when that was at the latest."""
    backed.run("insert into public.moments values (clock_timestamp())")
    return datetime.fromisoformat(backed.now())


async def go_on(ends: TwoEnds, backfill: int, first: date, end: date) -> None:
    """One more partition of the backfill."""
    await backfill_partition(
        Ends(ends.warehouse_address, ends.shop_address, declared_shop, declared_shop.table("baskets")),
        "sold_at",
        Partition(first, end),
        backfill,
    )


def test_a_drill_claims_no_more_than_can_be_recovered_and_touches_nothing(backed: Backed) -> None:
    backed.run("create table public.moments (at timestamptz)")
    backed.back_up()
    with backed.archived():
        kept = commit(backed)
    before_loss = datetime.fromisoformat(backed.now())
    commit(backed)  # nobody archives any more
    live = loads(backed.warehouse)

    with setting(backup_rpo_seconds=600):
        done = drill(backed.catalog, backed.keys, sources={"shop": ["baskets"]}, within=backed.root / "scratch")

    safe_until = done.began_at - timedelta(seconds=done.rpo_seconds)
    assert kept <= safe_until + timedelta(milliseconds=1)
    assert safe_until < before_loss + timedelta(milliseconds=1)
    assert done.problems == []
    assert [(line.table, line.rows_read, line.agrees) for line in done.tables] == [("shop.baskets", 150, True)]
    assert [check.found for check in done.checks if "structure" in check.name or "pages" in check.name] == ["good"]
    assert loads(backed.warehouse) == live
    assert [found["rpo_seconds"] for found in backed.catalog.drills()] == [done.rpo_seconds]
    assert [*(backed.root / "scratch").iterdir()] == []

    for missed in (replace(done, rpo_target=0.0), replace(done, rto_target=0.1)):
        with pytest.raises(TargetMissed) as refused:
            refuse_missed(missed)
        assert refused.value.exit_code == 1


def test_a_missed_target_ends_the_command_with_1_and_says_what_was_missed(backed: Backed) -> None:
    ended = medallion("drill", "--no-sources", variables={"MEDALLION_BACKUP_RTO_SECONDS": "0.1"})

    assert ended.code == 1
    assert "missed" in ended.out
    assert "recovery took" in ended.panel
    listed = medallion("backup", "list", variables={"COLUMNS": "200"})
    assert listed.code == 0
    assert backed.catalog.backups()[-1].label in listed.out
    assert "No archiver is running" in listed.out
    secrets = ["AGE-SECRET-KEY", *backed.private.cluster.passwords.values()]
    assert [secret for secret in secrets if secret in ended.text + listed.text] == []


def test_a_page_that_the_disk_damaged_is_found_when_it_is_copied(backed: Backed) -> None:
    backed.run("create table public.damaged as select n from generate_series(1, 1000) as n")
    with psycopg.connect(backed.warehouse.url("admin"), autocommit=True) as session:
        session.execute("checkpoint")
        row = session.execute("select pg_relation_filepath('public.damaged')").fetchone()
    assert row is not None
    file = backed.private.server.data / row[0]
    content = file.read_bytes()
    file.write_bytes(content[:100] + b"\xff" * 8 + content[108:])
    known = [backup.label for backup in backed.catalog.backups()]
    try:
        with pytest.raises(ServerRefused, match="checksum") as refused:
            backed.back_up()
    finally:
        file.write_bytes(content)
        backed.run("drop table public.damaged")

    assert "a page on the server's disk is damaged" in refused.value.fix
    assert [backup.label for backup in backed.catalog.backups()] == known


async def test_after_the_loss_of_the_cluster_raw_is_what_the_sources_hold(backed: Backed, api: ScriptedApi) -> None:
    """Cursors went back with the rows, so loads that were lost happen again: for merges, appends, replaces, an API's
    list and a backfill that was under way."""
    ends = TwoEnds(backed.warehouse, backed.shop)
    everything = {"shop": None, "marketing": None}
    await catch_up(ends.warehouse_address, everything)
    backed.back_up()
    with backed.archived():
        change(backed.shop, *CHANGES)
        await backed.load("basket_items")
        [(backfill,)] = ends.raw(
            "insert into ops.backfills (source_system, table_name, column_name, every, first_day, last_day) "
            "values ('shop', 'baskets', 'sold_at', 'month', '2017-01-01', '2017-12-31') returning backfill_id"
        )
        await go_on(ends, backfill, date(2017, 1, 1), date(2017, 2, 1))
    # From here on everything is lost, but for what the sources still hold.
    change(
        backed.shop,
        "update households set age_band = '65+', updated_at = now() where household_id % 2 = 0",
        "delete from basket_items where basket_item_id % 7 = 0",
    )
    api.records["coupons"].append({**api.records["coupons"][0], "id": "1-2", "updated_at": "2017-04-01T00:00:00Z"})
    await catch_up(ends.warehouse_address, everything)
    change(backed.shop, "update households set age_band = '25-34', updated_at = now() where household_id % 3 = 0")
    backed.private.stop()
    shutil.rmtree(backed.private.server.data)

    with backed.recovered() as found:
        lines = await catch_up(warehouse_of(found.cluster), everything)

        assert [(line.table, line.result) for line in lines if not line.agrees] == []
        recovered = RecoveredDatabase("warehouse", backed.private.cluster, WAREHOUSE_ROLES, found)
        both = TwoEnds(recovered, backed.shop)
        for table in declared_shop.tables:
            at_rest(both, declared_shop, table)
        assert both.raw("select count(*), count(distinct event_id) from raw_shop.household_events") == both.source(
            "select count(*), count(distinct event_id) from household_events"
        )
        assert both.raw("select count(*) from raw_marketing.coupons") == [(2,)]
        assert both.raw("select upper_bound from ops.backfill_partitions") == [(date(2017, 2, 1),)]
        await go_on(both, backfill, date(2017, 2, 1), date(2017, 3, 1))
        at_rest(both, declared_shop, declared_shop.table("baskets"))
        assert both.raw("select count(*) from ops.loads where status = 'running'") == [(0,)]
