"""Inputs of every kind, changed in every way that PostgreSQL knows: what reads them holds what they hold."""

from collections.abc import Iterator, Mapping

import psycopg
import pytest

from tests.models.selective.small_project import SmallWarehouse

pytestmark = pytest.mark.xdist_group("selective")

_INPUTS = {
    "viewed": "create view raw_shop.viewed as select id, amount from raw_shop.below",
    "viewed_twice": "create view raw_shop.viewed_twice as select * from raw_shop.viewed",
    "refreshed": "create materialized view raw_shop.refreshed as select id, amount from raw_shop.below",
    "parted": "create table raw_shop.parted (id integer, amount text) partition by range (id);"
    "create table raw_shop.parted_low partition of raw_shop.parted for values from (0) to (50);"
    "create table raw_shop.parted_high partition of raw_shop.parted for values from (50) to (100);"
    "create table raw_shop.parted_more (id integer, amount text); insert into raw_shop.parted_more values (150, 'c');"
    "insert into raw_shop.parted values (1, 'a'), (60, 'b')",
    "inherited": "create table raw_shop.inherited (id integer, amount text);"
    "create table raw_shop.heir () inherits (raw_shop.inherited); create table raw_shop.far_heir () "
    "inherits (raw_shop.heir); insert into raw_shop.far_heir values (1, 'a')",
    "renamed": "create table raw_shop.renamed (id text, amount text); insert into raw_shop.renamed values ('1', '2')",
    "computed": "create table raw_shop.computed (id integer, amount text generated always as ('a' || id::text));"
    "insert into raw_shop.computed values (1)",
    "listed": "create type raw_shop.mood as enum ('good', 'bad');"
    "create table raw_shop.listed (id integer, amount raw_shop.mood); insert into raw_shop.listed values (1, 'good')",
    "seen_in_part": "create table raw_shop.seen_in_part (id integer, amount text);"
    "insert into raw_shop.seen_in_part values (1, 'a'), (2, 'b');"
    "create policy shown on raw_shop.seen_in_part using (id = 1);"
    "alter table raw_shop.seen_in_part enable row level security",
    "foreign_rows": "create foreign table raw_shop.foreign_rows (id integer, amount text) server elsewhere "
    "options (schema_name 'raw_shop', table_name 'below')",
    "parted_abroad": "create table raw_shop.parted_abroad (id integer, amount text) partition by range (id);"
    "create foreign table raw_shop.parted_abroad_one partition of raw_shop.parted_abroad default server elsewhere "
    "options (schema_name 'raw_shop', table_name 'below')",
    "clocked": "create view raw_shop.clocked as select 1 as id, 'a' as amount where now() > '2000-01-01'",
    "unlogged": "create unlogged table raw_shop.unlogged (id integer, amount text);"
    "insert into raw_shop.unlogged values (1, 'a')",
}
_LEDGER = (
    "insert into ops.loads (source_system, table_name, strategy, status, rows_read, rows_inserted, rows_updated, "
    "rows_unchanged, rows_deduplicated, rows_quarantined, rows_deleted, finished_at) "
    "select 'shop', name, 'merge', 'published', 1, 1, 0, 0, 0, 0, 0, now() from unnest(%s::text[]) as name"
)


@pytest.fixture(scope="module")
def reads_all(built: SmallWarehouse) -> Iterator[SmallWarehouse]:
    """A model per input. All are in the ledger of loads: no hash of small tables hides what is missed."""
    url = built.database.url("admin")
    with psycopg.connect(url) as admin:
        admin.execute("create extension if not exists postgres_fdw")
        info = psycopg.conninfo.conninfo_to_dict(url)
        admin.execute(
            f"create server elsewhere foreign data wrapper postgres_fdw options "
            f"(host '{info['host']}', port '{info['port']}', dbname '{info['dbname']}')".encode()
        )
        for role in ("medallion_loader", "medallion_transformer", "current_user"):
            admin.execute(
                f"create user mapping for {role} server elsewhere "
                f"options (user '{info['user']}', password '{info['password']}')".encode()
            )
        admin.execute("grant usage on foreign server elsewhere to medallion_loader")
    built.sql(
        "loader",
        "create table raw_shop.below (id integer, amount text); insert into raw_shop.below values (1, 'a'); "
        "create table raw_shop.far_below (id integer, amount text);" + "; ".join(_INPUTS.values()),
    )
    with psycopg.connect(built.database.url("loader")) as loader:
        loader.execute(_LEDGER, [list(_INPUTS)])
    tables = ", ".join(f"{{name: {name}}}" for name in _INPUTS)
    built.add_yaml("more", f"sources: [{{name: more, schema: raw_shop, tables: [{tables}]}}]")
    built.add(**{
        f"silver__of_{name}": f"select id, amount::text as amount from {{{{ source('more', '{name}') }}}}"
        for name in _INPUTS
    })  # fmt: skip
    assert built.build()
    yield built
    built.remove_added()
    assert built.build()


def test_inputs_that_did_not_change_build_nothing_and_those_that_cannot_be_known_build_each_time(
    reads_all: SmallWarehouse,
) -> None:
    assert reads_all.build()
    assert reads_all.nodes_built() == {"of_seen_in_part", "of_foreign_rows", "of_parted_abroad", "of_clocked"}


_CHANGES = [
    {
        "viewed": "insert into raw_shop.below values (2, 'below the view')",
        "refreshed": "refresh materialized view raw_shop.refreshed",
        "parted": "update raw_shop.parted set id = 61 where id = 1",
        "inherited": "insert into raw_shop.heir values (2, 'b')",
        "renamed": "alter table raw_shop.renamed rename id to x; alter table raw_shop.renamed rename amount to id; "
        "alter table raw_shop.renamed rename x to amount",
        "computed": "alter table raw_shop.computed alter amount set expression as ('b' || id::text)",
        "listed": "alter type raw_shop.mood rename value 'good' to 'fine'",
        "seen_in_part": "alter policy shown on raw_shop.seen_in_part using (id = 2)",
        "unlogged": "alter table raw_shop.unlogged set logged",
    },
    {
        "viewed": "create or replace view raw_shop.viewed as select id, 'other' as amount from raw_shop.below",
        "parted": "alter table raw_shop.parted attach partition raw_shop.parted_more for values from (100) to (200)",
        "inherited": "update raw_shop.far_heir set amount = 'c'",
        "unlogged": "set local session_replication_role = replica; update raw_shop.unlogged set amount = 'r'",
    },
    {
        "viewed_twice": "create or replace view raw_shop.viewed as select 7 as id, amount from raw_shop.below",
        "parted": "truncate raw_shop.parted_high",
        "inherited": "alter table raw_shop.heir no inherit raw_shop.inherited",
        "unlogged": "alter table raw_shop.unlogged rename to gone; create table raw_shop.unlogged as "
        "select 9 as id, 'swapped' as amount; grant select on raw_shop.unlogged to medallion_transformer",
    },
    {
        "viewed_twice": "insert into raw_shop.below values (3, 'below two views, and abroad')",
        "parted": "alter table raw_shop.parted detach partition raw_shop.parted_more",
    },
]


@pytest.mark.parametrize("changes", _CHANGES)
def test_what_reads_an_input_has_its_rows_after_it_changed(
    reads_all: SmallWarehouse, changes: Mapping[str, str]
) -> None:
    reads_all.sql("admin", "; ".join(changes.values()))
    before = {name: _rows(reads_all, f"raw_shop.{name}") for name in _INPUTS}
    assert reads_all.build()
    held = {name: _rows(reads_all, f"silver.of_{name}") for name in _INPUTS}
    assert held == before


def _rows(small: SmallWarehouse, relation: str) -> list[tuple[str, str]]:
    with psycopg.connect(small.database.url("transformer")) as session:
        return session.execute(f"select id::text, amount::text from {relation} order by 1, 2".encode()).fetchall()
