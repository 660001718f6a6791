"""No false alarm for any type, and no damage that goes unseen, whatever it hits and however deep the drill goes."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from flows.declare import Merge
from flows.kinds.postgres import Database, Table
from flows.kinds.postgres.compare import both_ends, narrow
from flows.kinds.postgres.compare.narrow import first_bits
from flows.state.reconciliations import Reconciliation
from flows.verbs.compare import compare_table
from tests.conftest import TestCluster, TestDatabase, fresh_shop, fresh_warehouse
from tests.kinds.loading import at, change, load
from tests.nightly import nightly
from tests.publish.test_types import create_all
from tests.publish.two_ends import TwoEnds

EVERYTHING = Table("everything", key="id", load=Merge())
ROWS = 300
THINGS = Table("things", key="id", load=Merge())


async def compared(
    warehouse: TestDatabase, shop: TestDatabase, table: Table, *, repair: bool = False
) -> Reconciliation:
    source = Database("shop", connection="shop", tables=[table])
    return await compare_table(at(warehouse, "loader"), at(shop, "extractor"), source, table, repair=repair)


@pytest.fixture(params=["fast hash", "portable hash"])
def hashed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that hash text differently answer the probe differently, as any two calls of this one do."""
    if request.param == "portable hash":
        monkeypatch.setattr(both_ends, "PROBE", "select random() as hash")


@pytest.mark.usefixtures("hashed")
async def test_equal_values_of_every_type_agree_and_any_other_value_does_not(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    columns = create_all(TwoEnds(warehouse, shop))
    source = Database("shop", connection="shop", tables=[EVERYTHING])
    loaded = await load(warehouse, shop, EVERYTHING, source)
    result = await compared(warehouse, shop, EVERYTHING)
    assert (result.result, result.raw_rows) == ("match", loaded.counts.rows_read)

    names = [name for name, _ in columns]
    lost = " or ".join(f"{name} is not null" for name in names)
    nothing = ", ".join(f"{name} = null" for name in names)
    change(warehouse, f"update raw_shop.everything set {nothing} where {lost}", role="loader")
    result = await compared(warehouse, shop, EVERYTHING)
    assert result.different == loaded.counts.rows_read - 1, "each row but the empty one held one value"
    assert (await compared(warehouse, shop, EVERYTHING, repair=True)).result == "match"


ALIKE = [
    ("1.0::numeric", "1.00::numeric"),
    ("'-0'::float8", "'0'::float8"),
    ("0.1::float8", "0.10000000000000002::float8"),
    ("'{\"a\": 1}'::json", "'{\"a\":  1}'::json"),
    ("null::text", "''::text"),
    ("'1 mon'::interval", "'30 days'::interval"),
    ("array[null]::text[]", "array['NULL']::text[]"),
    ("timestamptz '2024-01-01 00:00:00.000001+00'", "timestamptz '2024-01-01 00:00:00+00'"),
]


async def test_values_that_look_alike_are_told_apart(warehouse: TestDatabase, shop: TestDatabase) -> None:
    """A column for each pair, and a row in which only that column has the other value."""
    table = Table("v", key="id", load=Merge())
    values = ", ".join(f"{before} as v{n}" for n, (before, _) in enumerate(ALIKE))
    change(shop, f"create table v as select id, {values} from generate_series(0, {len(ALIKE)}) as id")
    await load(warehouse, shop, table, Database("shop", connection="shop", tables=[table]))
    change(shop, *(f"update v set v{n} = {after} where id = {n}" for n, (_, after) in enumerate(ALIKE)))

    found = await compared(warehouse, shop, table)

    assert {key for (key,) in found.keys["different"]} == {str(n) for n in range(len(ALIKE))}
    assert found.raw_rows == len(ALIKE) + 1, "and one row is as it was"


async def test_a_value_moved_to_the_next_column_is_a_difference(warehouse: TestDatabase, shop: TestDatabase) -> None:
    """What a checksum over joined texts would miss."""
    table = Table("v", key="id", load=Merge())
    change(shop, "create table v as select 1 as id, 'a,b'::text as x, 'c'::text as y, null::text as z")
    await load(warehouse, shop, table, Database("shop", connection="shop", tables=[table]))
    for x, y, z in (("a", "b,c", None), ("a,b", None, "c"), ("a,b,c", None, None), ('a"', "b", "c")):
        with psycopg.connect(warehouse.url("loader")) as connection:
            connection.execute("update raw_shop.v set x = %s, y = %s, z = %s", (x, y, z))
        assert (await compared(warehouse, shop, table)).different == 1


async def test_money_reads_the_same_whatever_the_servers_locales(warehouse: TestDatabase, shop: TestDatabase) -> None:
    table = Table("v", key="id", load=Merge())
    change(shop, "create table v as select 1 as id, '12.34'::money as v")
    await load(warehouse, shop, table, Database("shop", connection="shop", tables=[table]))
    with psycopg.connect(shop.url("admin"), autocommit=True) as admin:
        admin.execute(sql.SQL("alter database {} set lc_monetary = 'C.UTF-8'").format(sql.Identifier(shop.name)))
    assert (await compared(warehouse, shop, table)).result == "match"


def test_buckets_hold_about_as_many_rows_whatever_the_table() -> None:
    assert [first_bits(rows) for rows in (-1, 0, 255, 256, 1_000_000, 10**9)] == [12, 0, 0, 1, 12, 14]


# -- random damage


@dataclass(frozen=True)
class Damage:
    """Ids of rows that were changed, lost and invented."""

    changed: frozenset[int]
    lost: frozenset[int]
    invented: frozenset[int]


ids = st.frozensets(st.integers(1, ROWS), max_size=8)
damages = st.builds(
    lambda changed, lost, invented: Damage(changed - lost, lost, frozenset(ROWS + id for id in invented)),
    ids, ids, ids,
)  # fmt: skip


@pytest.fixture(scope="module")
def things(cluster: TestCluster) -> Iterator[TwoEnds]:
    with fresh_warehouse(cluster) as warehouse, fresh_shop(cluster) as shop:
        change(
            shop,
            "create table things (id int primary key, a text, b numeric, c jsonb)",
            "insert into things select n, 'thing ' || n, n / 7.0, jsonb_build_object('n', n) "
            f"from generate_series(1, {ROWS}) as n",
        )
        asyncio.run(load(warehouse, shop, THINGS, Database("shop", connection="shop", tables=[THINGS])))
        yield TwoEnds(warehouse, shop)


columns = st.sampled_from(["a = a || ' '", "b = b * 10", "c = c || '{\"x\": 1}'", "a = null"])


@pytest.mark.parametrize("examples", [5, *nightly(60)])
@pytest.mark.parametrize("levels", ["one level", "several levels"])
def test_random_damage_is_found_row_for_row_and_repaired(
    things: TwoEnds, monkeypatch: pytest.MonkeyPatch, levels: str, examples: int
) -> None:
    if levels == "several levels":
        monkeypatch.setattr(narrow, "_MOST_BITS", 1)
        monkeypatch.setattr(narrow, "_LARGE_BUCKET", 2)
        monkeypatch.setattr(narrow, "_FURTHER_BITS", 2)

    @settings(max_examples=examples, deadline=None)
    @given(damage=damages, column=columns)
    def find(damage: Damage, column: str) -> None:
        is_found_and_repaired(things, levels, damage, column)

    find()


def is_found_and_repaired(things: TwoEnds, levels: str, damage: Damage, column: str) -> None:
    things.raw(f"update raw_shop.things set {column} where id = any(%s)", (list(damage.changed),))
    things.raw("delete from raw_shop.things where id = any(%s)", (list(damage.lost),))
    things.raw(
        "insert into raw_shop.things select i, 'made up', 0, '{}', now(), 'shop', 0 from unnest(%s::int[]) as i "
        "on conflict (id) do update set _deleted_at = null",
        (list(damage.invented),),
    )

    found = asyncio.run(compared(things.warehouse, things.shop, THINGS))

    assert (found.missing, found.extra, found.different) == (
        len(damage.lost), len(damage.invented), len(damage.changed),
    )  # fmt: skip
    for kind, expected in (
        ("missing", damage.lost), ("extra", damage.invented), ("different", damage.changed),
    ):  # fmt: skip
        assert {(str(id),) for id in expected} == {tuple(key) for key in found.keys.get(kind, [])}
    if levels == "one level" and found.differences:
        assert found.drilled <= found.differences
    if levels == "several levels" and found.differences:
        assert found.buckets > 2
    assert asyncio.run(compared(things.warehouse, things.shop, THINGS, repair=True)).result == "match"
