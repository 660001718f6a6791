"""Columns of which a hash or a mask is loaded: the values behind them stay at the source."""

import hashlib
import hmac
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asyncpg import Connection

from flows.access.addresses import connect
from flows.access.mask_key import mask_key
from flows.declare import Append, Hashed, Masked, Merge, Overwrite, Replace, Rule, Sequence, Timestamp
from flows.kinds.postgres import Database, Table
from flows.kinds.postgres.large.chunks import ChunkJob, stage_chunk
from flows.kinds.postgres.masks import give_key
from flows.kinds.postgres.table import describe, select_rows
from flows.state.reads import Chunk
from flows.values.errors import ConfigurationError, DeclarationError, SourceError
from flows.values.settings import settings
from flows.verbs.compare import compare_table
from flows.verbs.cursor import move_cursor
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.kinds.everywhere import tables_with
from tests.kinds.loading import setting
from tests.nightly import nightly
from tests.publish.two_ends import TwoEnds

KEY = "a key for hashes in tests, of 40 characters"
SMALL = {"medium_load_mb": 0.001, "chunk_min_mb": 0.001, "chunk_max_mb": 0.004}


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> Iterator[TwoEnds]:
    two = TwoEnds(warehouse, shop)
    two.source(
        "create table people (id int primary key, email text, phone text, band int, at timestamptz default now());"
        "insert into people values (1, 'ada@example.com', '5550142', 3), (2, 'bob@example.com', '12', 4),"
        "(3, null, null, 5);"
        "grant select on people to medallion_extractor"
    )
    with setting(mask_key=KEY):
        yield two


def people(**declared: Any) -> Table:
    given: dict[str, Any] = {
        "key": "id", "cursor": Timestamp("at"), "load": Merge(), "deletes": True,
        "masked": {"email": Hashed(), "phone": Masked(keep=2)},
    } | declared  # fmt: skip
    return Table("people", **given)


def hashed(text: str, key: str = KEY) -> str:
    """As anybody computes it: HMAC-SHA256."""
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


@contextmanager
def logged() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler, root = logging.StreamHandler(stream), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


async def compared(ends: TwoEnds, table: Table, *, repair: bool = False) -> Any:
    declared = Database("shop", connection="shop", tables=[table])
    return await compare_table(ends.warehouse_address, ends.shop_address, declared, table, repair=repair)


async def test_hashes_and_masks_are_loaded_instead_of_the_values(ends: TwoEnds) -> None:
    result = await ends.load(people())

    assert ends.raw("select id, email, phone, band from raw_shop.people order by id") == [
        (1, hashed("ada@example.com"), "***42", 3),
        (2, hashed("bob@example.com"), "***", 4),
        (3, None, None, 5),
    ]
    assert result.counts.reconciliation == "match"


async def test_no_value_behind_a_mask_is_anywhere_in_the_warehouse_or_the_log(ends: TwoEnds) -> None:
    """Rows that are changed, refused, quarantined, compared and repaired are looked at, too."""
    # How many of the rows of the second load are bad depends on how long ago the first one was.
    table = people(rules=(Rule("band_is_low", "band < 9"),), max_quarantined=1, on_duplicate="quarantine")
    ends.source("alter table people drop constraint people_pkey")
    said = []
    with logged() as log:
        await ends.load(table)
        ends.source(
            "update people set email = 'eve@example.com', at = now() where id = 1;"
            "insert into people values (4, 'bad@example.com', '5550199', 10), (5, 'one@example.com', '1', 1),"
            "(5, 'two@example.com', '2', 1)"
        )
        said.append(repr(await ends.load(table)))
        ends.raw("update raw_shop.people set band = 7 where id = 2")
        said.append(repr(await compared(ends, table, repair=True)))
        with pytest.raises(Exception, match="band_is_low") as refused:
            await ends.load(
                people(rules=(Rule("band_is_low", "band < 1"),), load=Replace(), cursor=None, deletes=False)
            )
        said += [str(refused.value), repr(refused.value.__dict__)]

    assert ends.raw("select count(*) from quarantine.rows") == [(3,)]
    assert tables_with(ends.warehouse, "@example.com") == []
    assert tables_with(ends.warehouse, "55501") == []
    said.append(log.getvalue())
    assert [text for text in said if "@example.com" in text or "55501" in text] == []
    assert [text for text in said if KEY in text] == []
    assert tables_with(ends.warehouse, KEY) == []


async def test_without_the_mask_the_values_would_be_found(ends: TwoEnds) -> None:
    """The control of the search."""
    await ends.load(people(masked={}, rules=(Rule("band_is_low", "band < 4"),), max_quarantined=1))

    assert set(tables_with(ends.warehouse, "@example.com")) >= {"raw_shop.people", "quarantine.rows"}


async def test_equal_values_join_across_tables_types_and_sources(ends: TwoEnds) -> None:
    ends.source(
        "create type code as enum ('ada@example.com'); create domain mail as varchar(40);"
        "create table orders (n int primary key, buyer mail, as_char char(30), as_code code, number bigint);"
        "insert into orders values (1, 'ada@example.com', 'ada@example.com', 'ada@example.com', 42);"
        "grant select on orders to medallion_extractor"
    )
    await ends.load(people())
    masked = {"buyer": Hashed(), "as_char": Hashed(), "as_code": Hashed(), "number": Hashed()}
    await ends.load(Table("orders", key="n", load=Replace(), masked=masked), source="mail")

    query = (
        "select p.id, o.number from raw_shop.people as p inner join raw_mail.orders as o "
        "on p.email = o.buyer and p.email = o.as_char and p.email = o.as_code"
    )
    assert ends.raw(query) == [(1, hashed("42"))]


async def test_a_hashed_key_finds_changes_and_deletes_and_is_compared_and_repaired(ends: TwoEnds) -> None:
    ends.source("delete from people where email is null; alter table people alter email set not null")
    table = people(key="email", cursor=None, masked={"email": Hashed()})
    await ends.load(table)
    ends.source("update people set band = 9, at = now() where id = 1; delete from people where id = 2")

    counts = (await ends.load(table)).counts

    assert (counts.rows_updated, counts.rows_deleted, counts.reconciliation) == (1, 1, "match")
    ends.raw("update raw_shop.people set band = 0 where id = 1")
    found = await compared(ends, table)
    assert (found.result, found.different, found.missing, found.extra) == ("different", 1, 0, 0)
    assert "hashes and masks were compared" in str(found.note)
    assert (await compared(ends, table, repair=True)).result == "match"
    assert tables_with(ends.warehouse, "@example.com") == []


@pytest.mark.parametrize("key", ["email", *nightly("id")])
async def test_a_large_table_is_masked_in_every_chunk(ends: TwoEnds, key: str) -> None:
    """Edges between chunks are stored: of a masked key, they would be the values."""
    ends.source(
        "delete from people; alter table people alter email set not null; create unique index on people (email);"
        "insert into people select n, 'p' || n || '@example.com', '555010' || n, n % 9 "
        "from generate_series(1, 3000) as n;"
        "analyze people"
    )
    table = people(key=key, cursor=None, load=Replace(), deletes=False)
    with setting(**SMALL, large_load_mb=0.002):
        result = await ends.load(table)

    assert result.counts.reconciliation == "match"
    assert ends.raw("select count(*), count(distinct email) from raw_shop.people where email ~ '^[0-9a-f]{64}$'") == [
        (3000, 3000)
    ]
    assert tables_with(ends.warehouse, "@example.com") == []
    assert (await compared(ends, table)).result == "match"


async def test_windows_by_a_cursor_beside_a_hashed_key_hold_no_values(ends: TwoEnds) -> None:
    ends.source("delete from people; create index on people (at, email); alter table people alter email set not null")
    table = people(key="email", masked={"email": Hashed()}, deletes=False)
    await ends.load(table)
    ends.source(
        "insert into people select n, 'p' || n || '@example.com', '', 1, now() from generate_series(1, 3000) as n;"
        "analyze people"
    )
    with setting(**SMALL):
        result = await ends.load(table)

    assert (result.counts.rows_inserted, result.counts.reconciliation) == (3000, "match")
    assert tables_with(ends.warehouse, "@example.com") == []


async def test_without_the_key_nothing_is_loaded(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, said in ((None, "not configured"), ("", "less than"), ("too short", "less than")):
        with setting(mask_key=key or ""):
            if key is None:
                monkeypatch.delenv("MEDALLION_MASK_KEY")
            with pytest.raises(ConfigurationError, match=said) as refused:
                await ends.load(people())
        assert "32 random characters" in refused.value.fix
        assert ends.raw("select to_regclass('raw_shop.people')") == [(None,)]


async def test_masks_that_only_cut_need_no_key(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    with setting(mask_key=KEY):
        monkeypatch.delenv("MEDALLION_MASK_KEY")
        await ends.load(people(exclude=("email",), masked={"phone": Masked()}))
    assert ends.raw("select phone from raw_shop.people order by id") == [("***",), ("***",), (None,)]


@pytest.mark.parametrize(
    ("load", "cursor"), [(Merge(), Timestamp("at")), (Replace(), None), (Append(), Sequence("id"))]
)
async def test_another_key_is_noticed_and_refused_with_the_way_out(ends: TwoEnds, load: Any, cursor: Any) -> None:
    """Rows hashed with two keys would look like different people."""
    table = people(load=load, cursor=cursor, deletes=False)
    await ends.load(table)
    before = ends.raw("select p::text from raw_shop.people as p order by 1")
    ends.source("update people set band = band + 1, at = now()")

    with setting(mask_key="another key for hashes, of 40 characters"):
        with pytest.raises(DeclarationError, match="the key of the hashes is another one") as refused:
            await ends.load(table)
        with pytest.raises(DeclarationError, match="the key of the hashes is another one"):
            await compared(ends, table, repair=True)
        assert ends.raw("select p::text from raw_shop.people as p order by 1") == before
        assert "medallion reload shop.people --recreate" in refused.value.fix
        ends.raw("alter table raw_shop.people rename to former")  # what it does
        await ends.load(table)
    in_raw = ends.raw("select email from raw_shop.people where id = 1")
    assert in_raw == [(hashed("ada@example.com", "another key for hashes, of 40 characters"),)]


@pytest.mark.parametrize("masked", [{}, {"email": Hashed()}, {"email": Hashed(), "phone": Masked(keep=3)}])
async def test_other_masks_are_noticed_and_refused(ends: TwoEnds, masked: dict[str, Any]) -> None:
    await ends.load(people())

    with pytest.raises(DeclarationError, match="the masks were changed") as refused:
        await ends.load(people(masked=masked))

    assert "phone" in str(refused.value) or "email" in str(refused.value)
    assert tables_with(ends.warehouse, "@example.com") == []


async def test_a_cursor_that_is_reset_forgets_no_masks(ends: TwoEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows are read again, into rows of which only some change."""
    table = people()
    source = Database("shop", connection="shop", tables=[table])
    monkeypatch.setattr("flows.verbs.find.SOURCES", (source,))
    monkeypatch.setenv("MEDALLION_WAREHOUSE_URL", ends.warehouse.url("loader"))
    monkeypatch.setenv("MEDALLION_SOURCE_SHOP_URL", ends.shop.url("extractor"))
    settings.cache_clear()
    await ends.load(table)

    await move_cursor("shop.people", None, "somebody")

    with pytest.raises(DeclarationError, match="the masks were changed"):
        await ends.load(people(masked={"email": Hashed()}))
    assert (await ends.load(table)).counts.reconciliation == "match"


async def test_a_table_that_was_loaded_in_plain_is_not_masked_in_place(ends: TwoEnds) -> None:
    """Deleted rows and quarantine would keep the values, and the declaration would say otherwise."""
    await ends.load(people(masked={}))
    with pytest.raises(DeclarationError, match="the masks were changed"):
        await ends.load(people())


async def test_a_column_that_raw_lacks_may_come_masked(ends: TwoEnds) -> None:
    await ends.load(people(exclude=("email",), masked={"phone": Masked(keep=2)}))
    await ends.load(people())
    assert ends.raw("select email from raw_shop.people where id = 1") == [(hashed("ada@example.com"),)]


async def test_the_key_is_in_no_statement_at_the_source(ends: TwoEnds) -> None:
    """Statistics of statements and the list of sessions show their texts to people who may not see the key."""
    seen: list[str] = []
    inner, outer = (pad.hex() for pad in mask_key().pads)

    originals = {name: getattr(Connection, name) for name in ("execute", "fetch", "fetchrow", "fetchval")}
    with pytest.MonkeyPatch.context() as patch:
        for name, original in originals.items():

            def note(self: Any, query: str, *arguments: Any, _original: Any = original, **options: Any) -> Any:
                seen.append(query)
                return _original(self, query, *arguments, **options)

            patch.setattr(Connection, name, note)
        await ends.load(people())
    assert any("set_config" in query for query in seen), "the control: statements are seen"
    assert [query for query in seen if inner in query or outer in query or KEY in query] == []


async def test_a_transaction_without_the_key_fails_instead_of_hashing_without_it(ends: TwoEnds) -> None:
    """A setting that an earlier transaction of the session left behind is an empty text, not none."""
    table = people()
    async with connect(ends.shop_address, side="source") as origin:
        shape = await describe(origin, "shop", "raw_shop", table)
        query = select_rows(table, shape, "true")
        with pytest.raises(Exception, match=r"medallion\.mask_outer"):
            await origin.fetch(query)
        async with origin.transaction():
            await give_key(origin, table)
            assert len(await origin.fetch(query)) == 3
        with pytest.raises(Exception, match="json"):
            await origin.fetch(query)


async def test_a_name_that_is_not_in_the_table_is_refused(ends: TwoEnds) -> None:
    """A mistyped name would load what must not be loaded."""
    with pytest.raises(SourceError, match="emial of masked is not in the table"):
        await ends.load(people(masked={"emial": Hashed()}))


async def test_a_plan_says_what_is_masked(ends: TwoEnds) -> None:
    assert "masked as declared: email (hashed), phone (masked but for 2 characters)" in await ends.cautions(people())


async def test_partitions_are_overwritten_and_compared_with_masks(ends: TwoEnds) -> None:
    table = people(load=Overwrite(by="at", every="month"), cursor=None, deletes=False)
    await ends.load(table)
    ends.source("update people set band = 8 where id = 1; delete from people where id = 2")
    counts = (await ends.load(table)).counts
    assert (counts.rows_updated, counts.rows_deleted, counts.reconciliation) == (1, 1, "match")
    assert (await compared(ends, table)).result == "match"


async def test_bytes_that_are_no_utf8_are_hashed_as_they_are(ends: TwoEnds) -> None:
    """In a database that checks nothing, no row is refused for them, and texts in UTF-8 have the hash of others."""
    name, admin = f"{ends.shop.name}_ascii", ends.shop.cluster.connection
    admin.execute(f"create database {name} template template0 encoding 'SQL_ASCII' locale 'C' owner shop_app")
    try:
        admin.execute(f"grant connect on database {name} to medallion_extractor")
        ascii_ends = TwoEnds(ends.warehouse, TestDatabase(name, ends.shop.cluster, ends.shop.roles))
        ascii_ends.source(
            "set client_encoding = 'SQL_ASCII'; create table notes (id int primary key, note text);"
            "insert into notes values (1, E'M\\xc3\\xbcnchen'), (2, E'M\\xfcnchen');"
            "grant usage on schema public to medallion_extractor; grant select on notes to medallion_extractor"
        )
        counts = (await ascii_ends.load(Table("notes", key="id", load=Replace(), masked={"note": Hashed()}))).counts
    finally:
        admin.execute(f"drop database {name} with (force)")
    assert (counts.rows_quarantined, counts.reconciliation) == (0, "match")
    assert ends.raw("select note = %s from raw_shop.notes order by id", [hashed("München")]) == [(True,), (False,)]


async def test_a_mask_counts_characters_also_in_a_database_that_counts_bytes(ends: TwoEnds) -> None:
    """Half of a character is no UTF-8: its row would be quarantined. And three bytes are no three characters."""
    name, admin = f"{ends.shop.name}_masked", ends.shop.cluster.connection
    admin.execute(f"create database {name} template template0 encoding 'SQL_ASCII' locale 'C' owner shop_app")
    try:
        admin.execute(f"grant connect on database {name} to medallion_extractor")
        ascii_ends = TwoEnds(ends.warehouse, TestDatabase(name, ends.shop.cluster, ends.shop.roles))
        ascii_ends.source(
            "set client_encoding = 'SQL_ASCII'; create table notes (id int primary key, note text);"
            "insert into notes values (1, E'Kr\\xc3\\xbc\\xc3\\xbc'), (2, E'\\xe6\\x9d\\x8e\\xe5\\x9b\\x9b'), "
            "(3, '5550142'), (4, ''), (5, null), (6, E'\\xc3\\xbc\\xc3\\xbcab');"
            "grant usage on schema public to medallion_extractor; grant select on notes to medallion_extractor"
        )
        declared = Table("notes", key="id", load=Replace(), masked={"note": Masked(keep=2)})
        counts = (await ascii_ends.load(declared)).counts
    finally:
        admin.execute(f"drop database {name} with (force)")
    assert (counts.rows_quarantined, counts.reconciliation) == (0, "match")
    masked = ["***üü", "***", "***42", "***", None, "***ab"]
    assert ends.raw("select note from raw_shop.notes order by id") == [(each,) for each in masked]


def test_a_mask_keeps_at_most_half_of_a_value() -> None:
    assert [Masked(keep=2).of(text) for text in ("5550142", "1234", "123", "")] == ["***42", "***34", "***", "***"]


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"masked": {"at": Hashed()}}, "the cursor or the partition needs its order"),
        ({"masked": {"id": Masked()}}, "different rows would have one key"),
        ({"masked": {"email": "hash"}}, "which is no mask"),
        ({"masked": {"email": Hashed()}, "as_text": ("email",)}, "in both as_text and masked"),
        ({"masked": {"email": Hashed()}, "exclude": ("email",)}, "is not read"),
        (
            {"load": Overwrite(by="day", every="month"), "cursor": None, "deletes": False, "masked": {"day": Hashed()}},
            "the cursor or the partition needs its order",
        ),
    ],
)
def test_masks_that_contradict_the_table_are_refused(declared: dict[str, Any], said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        people(**declared)


def test_a_mask_cannot_keep_less_than_nothing() -> None:
    with pytest.raises(DeclarationError, match="cannot keep -1"):
        Masked(keep=-1)


async def test_the_labels_of_a_masked_enum_are_nowhere_in_the_warehouse(ends: TwoEnds) -> None:
    ends.source(
        "create type secret as enum ('ada@example.com', 'bob@example.com');"
        "create table t (id int primary key, s secret, a secret[]);"
        "insert into t values (1, 'ada@example.com', '{bob@example.com}');"
        "grant select on t to medallion_extractor"
    )
    await ends.load(Table("t", key="id", load=Merge(), masked={"s": Hashed(), "a": Masked()}))
    assert tables_with(ends.warehouse, "@example.com") == []


@pytest.mark.parametrize("other", ["key", "masks"])
async def test_a_worker_with_another_key_or_other_masks_reads_no_chunk(ends: TwoEnds, other: str) -> None:
    ends.source(
        "delete from people; insert into people select n, 'p' || n || '@example.com', '555010' || n, n % 9 "
        "from generate_series(1, 3000) as n; analyze people"
    )
    table = people(cursor=None, load=Replace(), deletes=False)
    theirs = people(cursor=None, load=Replace(), deletes=False, masked={}) if other == "masks" else table
    key = "another key for hashes, of 40 characters" if other == "key" else KEY

    async def elsewhere(job: ChunkJob) -> Chunk:
        source = Database("shop", connection="shop", tables=[theirs])
        with setting(mask_key=key, **SMALL, large_load_mb=0.002):
            return await stage_chunk(ends.warehouse_address, ends.shop_address, source, theirs, job)

    source = Database("shop", connection="shop", tables=[table])
    with (
        setting(**SMALL, large_load_mb=0.002, load_readers=3),
        pytest.raises(ConfigurationError, match="masks other columns"),
    ):
        await load_table(ends.warehouse_address, ends.shop_address, source, table, run_chunk=elsewhere)
    assert tables_with(ends.warehouse, "@example.com") == []


def test_a_line_break_behind_the_key_is_no_part_of_it() -> None:
    with setting(mask_key=KEY):
        plain = mask_key().hash("a")
    with setting(mask_key=f"{KEY}\n"):
        assert mask_key().hash("a") == plain
