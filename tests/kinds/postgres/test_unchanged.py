"""A replace of a table to which nothing was written: both ends compute a digest, and no row is copied."""

import re

import pytest

from flows.declare import Replace, Rule
from flows.kinds.postgres import Table, unchanged
from flows.publish.session import LoadResult
from tests.conftest import TestDatabase
from tests.nightly import chosen
from tests.publish.two_ends import TwoEnds

TABLE = Table("prices", key="id", load=Replace())
# What a server has counted is seen by others after up to ten seconds otherwise.
COUNTED = "select pg_stat_force_next_flush()"
TYPES = {
    "small": ("smallint", "n"),
    "whole": ("integer", "n"),
    "large": ("bigint", "n"),
    "amount": ("numeric", "n + 0.50"),
    "money": ("money", "n::text::money"),
    "share": ("double precision", "n / 3.0"),
    "short_share": ("real", "n / 3.0"),
    "is_open": ("boolean", "n % 2 = 0"),
    "name": ("text", "'text ' || n"),
    "label": ("character varying(20)", "'v' || n"),
    "code": ("character(4)", "'c' || n"),
    "symbol": ("bpchar", "'s' || n"),
    "token": ("uuid", "('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid"),
    "day": ("date", "date '2024-01-01' + n"),
    "at": ("timestamp with time zone", "timestamptz '2024-01-01 00:00:00.123456+00' + n * interval '1 s'"),
    "local_at": ("timestamp", "timestamp '2024-01-01' + n * interval '1 s'"),
    "span": ("interval", "n * interval '1 month'"),
    "clock": ("time", "time '10:00' + n * interval '1 s'"),
    "document": ("jsonb", "jsonb_build_object('n', n + 0.50)"),
    "written": ("json", "json_build_object('n', n)"),
    "bytes": ("bytea", "decode(lpad(to_hex(n), 8, '0'), 'hex')"),
    "list": ("integer[]", "array[n, n + 1]"),
    "words": ("text[]", "array['a', null, n::text]"),
    "network": ("inet", "'10.0.0.1'::inet + n"),
    "range": ("int4range", "int4range(n, n + 5)"),
    "state": ("price_state", "(array['new', 'old'])[n % 2 + 1]::price_state"),
}
# Changes of raw that make it differ from the source, each of them the smallest of its type.
CHANGES = {
    "a number with another scale": "set amount = 1.500 where id = 1",
    "a large number of which 32 bits are the same": "set large = 4294967296 where id = 1",
    "a zero with a sign": "set share = '-0' where id = 7",
    "an empty text instead of null": "set name = '' where id = 8",
    "null instead of an empty text": "set name = null where id = 9",
    "blanks at the end": "set symbol = 's1 ' where id = 1",
    "values that changed places between two rows": "set whole = 7 - whole where id in (3, 4)",
    "values that changed places within a row": "set name = label, label = name where id = 5",
    "a microsecond": "set at = at + interval '1 us' where id = 1",
    "thirty days instead of a month": "set span = interval '30 d' where id = 1",
    "a number within a document": "set document = '{\"n\": 1.500}' where id = 1",
    "a blank within a text of JSON": "set written = '{\"n\": 1}' where id = 1",
    "an element of a list": "set list = array[1, 3] where id = 1",
    "another bound of a list": "set list = '[2:3]={1,2}' where id = 1",
    "a label": "set state = 'new' where id = 1",
    "a row marked as deleted": "set _deleted_at = now() where id = 1",
}


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    """Ten rows with a column of each type."""
    two = TwoEnds(warehouse, shop)
    two.source("create type price_state as enum ('new', 'old')")
    columns = ", ".join(f'"{name}" {kind}' for name, (kind, _) in TYPES.items())
    values = ", ".join(value for _, value in TYPES.values())
    two.source(f"create table prices (id integer primary key, {columns})")
    two.source(f"insert into prices select n, {values} from generate_series(1, 10) as n")
    two.source("update prices set share = 0 where id = 7; update prices set name = null where id = 8")
    two.source(f"update prices set name = '' where id = 9; {COUNTED}")
    return two


def compared_digests(result: LoadResult) -> bool:
    """Whether nothing was copied."""
    counts = result.counts
    assert result.strategy in {"initial", "replace"}
    assert counts.reconciliation == "match"
    return counts.bytes == 0


async def test_a_table_to_which_nothing_was_written_is_not_copied(ends: TwoEnds) -> None:
    await ends.load(TABLE)
    batches = ends.raw("select ctid, xmin, _batch_id from raw_shop.prices order by id")

    for _ in range(2):
        assert "both ends compare digests" in await ends.reason(TABLE)
        result = await ends.load(TABLE)

        assert compared_digests(result)
        counts = result.counts
        assert (counts.rows_read, counts.rows_unchanged, counts.source_rows, counts.raw_rows) == (10, 10, 10, 10)
    assert ends.raw("select ctid, xmin, _batch_id from raw_shop.prices order by id") == batches


@pytest.mark.parametrize(
    "change",
    [
        "update prices set amount = 1.500 where id = 1",
        "delete from prices where id = 1",
        "insert into prices (id) values (11)",
        "create table kept as select * from prices; truncate prices; insert into prices select * from kept limit 9",
    ],
)
async def test_a_table_to_which_something_was_written_is_read(ends: TwoEnds, change: str) -> None:
    await ends.load(TABLE)
    ends.source(f"{change}; {COUNTED}")

    assert "digests" not in await ends.reason(TABLE)
    assert not compared_digests(await ends.load(TABLE))
    assert ends.same("prices", ", ".join(f'"{name}"' for name in ("id", *TYPES) if name != "money"))


@pytest.mark.parametrize(
    "change",
    chosen(
        CHANGES,
        "a number with another scale",
        "a large number of which 32 bits are the same",
        "a zero with a sign",
        "an empty text instead of null",
        "values that changed places between two rows",
        "values that changed places within a row",
        "another bound of a list",
        "a row marked as deleted",
    ),
)
async def test_raw_that_differs_is_found_whatever_the_statistics_say(ends: TwoEnds, change: str) -> None:
    await ends.load(TABLE)
    assert compared_digests(await ends.load(TABLE))
    columns = ", ".join(f'"{name}"' for name in ("id", *TYPES))
    before = ends.raw(f"select ({columns})::text from raw_shop.prices order by id")
    ends.raw(f"update raw_shop.prices {CHANGES[change]}")

    result = await ends.load(TABLE)

    assert not compared_digests(result)
    assert result.counts.rows_updated >= 1
    assert ends.raw(f"select ({columns})::text from raw_shop.prices order by id") == before


@pytest.mark.parametrize("change", ["delete from raw_shop.prices where id = 3", "truncate raw_shop.prices"])
async def test_rows_that_raw_has_lost_are_read_again(ends: TwoEnds, change: str) -> None:
    await ends.load(TABLE)
    ends.raw(change)

    assert not compared_digests(await ends.load(TABLE))
    assert ends.raw("select count(*) from raw_shop.prices") == [(10,)]


async def test_digests_that_differed_in_vain_are_not_compared_the_next_time(ends: TwoEnds) -> None:
    """Something at the source that is written but not counted, or a role that counts nothing, must not cost a scan each
    time."""
    await ends.load(TABLE)
    stored = "select identity ->> 'written' is not null from ops.cursors where table_name = 'prices'"
    assert ends.raw(stored) == [(True,)]
    ends.raw("delete from raw_shop.prices where id = 3")
    await ends.load(TABLE)
    assert ends.raw(stored) == [(False,)]

    assert not compared_digests(await ends.load(TABLE))
    assert compared_digests(await ends.load(TABLE))


async def test_a_new_rule_is_checked_although_nothing_was_written(ends: TwoEnds) -> None:
    await ends.load(TABLE)
    strict = Table("prices", key="id", load=Replace(), rules=(Rule("small", "whole < 10"),), max_quarantined=1)

    for _ in range(2):  # what is quarantined is looked at each time
        result = await ends.load(strict)

        assert result.counts.bytes > 0
        assert result.counts.rows_quarantined == 1

    result = await ends.load(TABLE)
    assert (result.counts.bytes > 0, result.counts.rows_quarantined) == (True, 0)


async def test_a_new_column_is_loaded_although_nothing_was_written(ends: TwoEnds) -> None:
    await ends.load(TABLE)
    ends.source("alter table prices add column tax numeric default 0.19")

    assert not compared_digests(await ends.load(TABLE))
    assert ends.raw("select distinct tax::text from raw_shop.prices") == [("0.19",)]
    assert compared_digests(await ends.load(TABLE))


async def test_what_the_source_does_not_count_is_copied_each_time(ends: TwoEnds) -> None:
    """Nobody knows when the table behind a view was written."""
    ends.source("create view priced as select id, amount from prices; grant select on priced to public")
    view = Table("priced", key="id", load=Replace())
    await ends.load(view)

    result = await ends.load(view)

    assert (result.counts.bytes > 0, result.counts.rows_unchanged) == (True, 10)


async def test_partitions_count_for_their_table(ends: TwoEnds) -> None:
    ends.source("create table parts (id integer primary key, v numeric) partition by range (id)")
    ends.source("create table parts_1 partition of parts for values from (0) to (100)")
    ends.source("create table parts_2 partition of parts for values from (100) to (200)")
    ends.source(f"insert into parts select n, n from generate_series(1, 199) as n; {COUNTED}")
    parts = Table("parts", key="id", load=Replace())
    await ends.load(parts)
    assert compared_digests(await ends.load(parts))
    ends.source(f"update parts set v = 7.0 where id = 150; {COUNTED}")

    result = await ends.load(parts)

    assert not compared_digests(result)
    assert result.counts.rows_updated == 1


async def test_control_a_hash_of_half_of_the_bits_finds_no_difference(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unchanged, "_HASHED_IN_FULL", unchanged._HASHED_IN_FULL | {"bigint"})
    await ends.load(TABLE)
    ends.raw(f"update raw_shop.prices {CHANGES['a large number of which 32 bits are the same']}")

    assert compared_digests(await ends.load(TABLE))


async def test_control_one_seed_for_all_rows_finds_no_values_that_changed_places(
    ends: TwoEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_seeds = vars(unchanged._Side)["digest"].fget
    seed = re.compile(r"pg_catalog\.hash_record_extended\(row\([^()]*\), 0\)")
    total = re.compile(r"coalesce\((sum\(.*\)), 0\) as mark")
    # Modulo 2^64, as each row's hash is: otherwise it is chance whether the sums differ.
    modulo = rf"((\1 % {2**64}) + {2**64}) % {2**64} as mark"
    without = property(lambda side: total.sub(modulo, seed.sub("0", with_seeds(side))))
    monkeypatch.setattr(unchanged._Side, "digest", without)
    await ends.load(TABLE)
    ends.raw(f"update raw_shop.prices {CHANGES['values that changed places between two rows']}")

    assert compared_digests(await ends.load(TABLE))


async def test_a_row_that_cannot_be_hashed_is_copied(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one of more than 1 GB: it can be sent, and the load must not fail each time because it cannot be compared."""
    await ends.load(TABLE)
    with_seeds = vars(unchanged._Side)["digest"].fget
    failing = property(lambda side: f"{with_seeds(side)}, max(repeat('a', 2000000000))")
    monkeypatch.setattr(unchanged._Side, "digest", failing)

    result = await ends.load(TABLE)

    assert not compared_digests(result)
    assert result.counts.rows_unchanged == 10
