"""Values reach raw exactly: compared byte for byte in COPY's binary format, after a first load and after a merge."""

from collections.abc import Mapping

import psycopg
import pytest

from flows.declare import Merge, Replace
from flows.kinds.postgres import Table
from tests.conftest import TestDatabase
from tests.publish.two_ends import TwoEnds

# A type at the source, and literals of it. Null is added to each.
TYPES: Mapping[str, tuple[str, ...]] = {
    "smallint": ("-32768", "32767"),
    "integer": ("-2147483648", "2147483647"),
    "bigint": ("-9223372036854775808", "9223372036854775807"),
    "numeric": ("NaN", "Infinity", "-Infinity", "1", "1.0", "1.00", "-0.000", "1e-100", "1e100", "123456789.987654321"),
    "numeric(12,2)": ("0.10", "-9999999999.99", "NaN"),
    "numeric(5,-2)": ("12300", "0"),
    "real": ("NaN", "-Infinity", "-0", "1e-45", "3.4028235e38", "0.1"),
    "double precision": ("NaN", "Infinity", "-0", "5e-324", "1.7976931348623157e308", "0.1"),
    "money": ("-12.34", "0"),
    "boolean": ("true", "false"),
    "text": ("", " ", 'it\'s "quoted" \\ and $1 %s', "line\nbreak\ttab", "é😀\u0301\u200d", "\\N", "NULL", "\x01"),
    "varchar(10)": ("", "abcdefghij"),
    "character(5)": ("ab", ""),
    '"char"': ("a", ""),
    "name": ("a_name",),
    "bytea": ("\\x", "\\x00ff5c27", "\\xdeadbeef"),
    "date": ("infinity", "-infinity", "0044-03-15 BC", "2024-02-29", "5874897-12-31"),
    "timestamp": ("infinity", "4713-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999", "2024-03-10 02:30:00"),
    "timestamp(0)": ("2024-01-01 00:00:01",),
    "timestamptz": ("-infinity", "0001-01-01 00:00:00+00 BC", "2107-01-01 00:00:00.000001-11"),
    "time": ("24:00:00", "00:00:00.000001"),
    "timetz": ("24:00:00-15:59", "12:00:00+05:30"),
    "interval": ("178000000 years", "-1 mons +2 days -03:00:00.000001", "infinity", "0"),
    "interval day to second(0)": ("1 day 02:03:04",),
    "uuid": ("00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    "inet": ("::1", "10.1.2.3/8", "192.168.0.1"),
    "cidr": ("10.0.0.0/8", "2001:db8::/32"),
    "macaddr8": ("08:00:2b:01:02:03:04:05",),
    "bit(3)": ("101",),
    "bit varying": ("", "1011"),
    "json": ('{"b": 1,  "a": 1.0, "a": 2}', "null", ' [1, 2.50, "\\u0041"] '),
    "jsonb": ('{"b": 1, "a": 1.0, "n": 123456789012345678901234567890.10}', "null", '"\\u00e9"'),
    "jsonpath": ("$.a[*] ? (@ > 1)",),
    "tsvector": ("'a':1A 'fat':2,4B 'cat'", ""),
    "tsquery": ("'fat' & !'rat':AB | 'cat':*",),
    "xid8": ("18446744073709551615",),
    "pg_lsn": ("16/B374D848",),
    "point": ("(1.5,-2)",),
    "polygon": ("((0,0),(1,1),(1,0))",),
    "circle": ("<(1,2),3>",),
    "int4range": ("empty", "[1,5)", "(,)", "[3,)"),
    "numrange": ("[1.0,1.00]", "(,5.50)"),
    "tstzrange": ('["2024-01-01 00:00:00+00",infinity)',),
    "datemultirange": ("{}", "{[2024-01-01,2024-02-01), [2024-03-01,)}"),
    "integer[]": ("{}", "{1,NULL,3}", "{{1,2},{3,4}}", "[0:1]={7,8}"),
    "text[]": ('{"", "a,b", NULL, "NULL", "\\"", "é"}',),
    "numeric(6,2)[]": ("{1.10,NaN}",),
    "timestamptz[]": ("{infinity,2024-01-01 00:00:00+00}",),
    "jsonb[]": ('{"{\\"a\\": 1}"}',),
    "int8range[]": ('{"[1,2)",empty}',),
    "mood": ("sad", "it's ok", "HAPPY"),
    "short_text": ("abc",),
    "amount": ("1.50", "NaN"),
}

# Types that mean nothing on another server, or are the source's own, travel as text.
AS_TEXT: Mapping[str, tuple[str, ...]] = {
    "pair": ('(1,"a, b")', "(,)"),
    "pair[]": ('{"(1,x)"}',),
    "mood[]": ("{sad,HAPPY}",),
    "mood_domain": ("sad",),
    "nested_domain": ("1.25",),
    "regclass": ("pg_class",),
    "regtype[]": ("{integer,text}",),
    "tid": ("(1,2)",),
    "float_span": ("[1.5,2.5)",),
}

SETUP = """
create type mood as enum ('sad', 'it''s ok', 'HAPPY');
create domain short_text as varchar(5) check (value <> 'no');
create domain amount as numeric(10, 2);
create domain mood_domain as mood;
create domain nested_domain as amount;
create type pair as (a int, b text);
create type float_span as range (subtype = float8);
"""


@pytest.fixture
def ends(warehouse: TestDatabase, shop: TestDatabase) -> TwoEnds:
    return TwoEnds(warehouse, shop)


def literal(text: str) -> str:
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def create_all(ends: TwoEnds) -> list[tuple[str, str]]:
    """A table with a column per type, and a row per value. Returns the columns and how to read them as raw has them."""
    ends.source(SETUP)
    kinds = [*TYPES, *AS_TEXT]
    columns = ", ".join(f"c{place} {kind}" for place, kind in enumerate(kinds))
    ends.source(f"create table everything (id int primary key, {columns})")
    ends.source("insert into everything values (0)")
    inserts = [
        f"insert into everything (c{place}, id) values ({literal(value)}, "
        for place, (_, values) in enumerate([*TYPES.items(), *AS_TEXT.items()])
        for value in values
    ]
    ends.source("; ".join(f"{insert}{number})" for number, insert in enumerate(inserts, start=1)))
    return [(f"c{place}", f"c{place}::text" if kind in AS_TEXT else f"c{place}") for place, kind in enumerate(kinds)]


def image(url: str, query: str) -> bytes:
    """The rows of a query in COPY's binary format."""
    with psycopg.connect(url) as connection:
        for setting in ("timezone = 'UTC'", "datestyle = 'ISO, YMD'", "intervalstyle = 'postgres'"):
            connection.execute(f"set {setting}")
        with connection.cursor().copy(f"copy ({query}) to stdout (format binary)") as copy:
            return b"".join(bytes(chunk) for chunk in copy)


def assert_same(ends: TwoEnds, columns: list[tuple[str, str]]) -> None:
    differing = []
    for name, at_source in columns:
        source = image(ends.shop.url("extractor"), f"select id, {at_source} from everything order by id")
        raw = image(ends.warehouse.url("loader"), f"select id, {name} from raw_shop.everything order by id")
        if source != raw:
            differing.append(name)
    assert differing == []


async def test_every_type_reaches_raw_byte_for_byte(ends: TwoEnds) -> None:
    columns = create_all(ends)
    table = Table("everything", key="id", load=Merge())
    await ends.load(table)
    assert_same(ends, columns)

    again = await ends.load(table)
    assert again.counts.changed == 0, "reading the same values again must find every one of them equal"

    names = ", ".join(name for name, _ in columns)
    ends.source(
        f"create table turned as select e.id, {', '.join('o.' + name for name, _ in columns)} "
        "from everything as e inner join everything as o on o.id = (select max(id) from everything) - e.id;"
        f"delete from everything; insert into everything (id, {names}) select * from turned"
    )
    turned = await ends.load(table)
    assert turned.counts.rows_updated >= turned.counts.rows_read - 1  # with an odd number one row stays where it is
    assert_same(ends, columns)


async def test_raw_has_the_types_of_the_source(ends: TwoEnds) -> None:
    create_all(ends)
    await ends.load(Table("everything", key="id", load=Replace()))
    query = (
        "select attname, format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = '{}'::regclass and attname ~ '^c[0-9]+$' order by attnum"
    )
    at_source: dict[str, str] = dict(ends.source(query.format("public.everything")))
    in_raw: dict[str, str] = dict(ends.raw(query.format("raw_shop.everything")))
    told = {"mood": "raw_shop.mood", "short_text": "character varying(5)", "amount": "numeric(10,2)"}
    expected = {name: "text" if kind in AS_TEXT else told.get(kind, kind) for name, kind in at_source.items()}
    assert in_raw == expected
    assert ends.raw("select enum_range(null::raw_shop.mood)::text") == [('{sad,"it\'s ok",HAPPY}',)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("1.0::numeric", "1.00::numeric"),
        ("'-0'::float8", "'0'::float8"),
        ("'{\"a\": 1}'::json", "'{\"a\":  1}'::json"),
        ("'A'::text", "'a'::text"),
        ("'1 mon'::interval", "'30 days'::interval"),
        ("'(1,2)'::point", "'(1.0000000001,2)'::point"),
    ],
)
async def test_values_that_are_equal_but_not_the_same_are_told_apart(ends: TwoEnds, before: str, after: str) -> None:
    """1.0 equals 1.00 and is not the same; json and point cannot even be compared with `=`."""
    ends.source(f"create table v as select 1 as id, {before} as v")
    table = Table("v", key="id", load=Merge())
    await ends.load(table)
    ends.source(f"update v set v = {after}")
    assert (await ends.load(table)).counts.rows_updated == 1
    assert ends.same("v", "id, v")
    assert (await ends.load(table)).counts.rows_unchanged == 1


async def test_names_are_only_names(ends: TwoEnds) -> None:
    long = "ä" * 31 + "x"  # 63 bytes
    names = ["select", "Group", 'say "hi"', "with space", "$1", "%s", "a.b", "'; drop table odd; --", long, "é", "_x"]
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    columns = ", ".join(f"{name} text default {place}::text" for place, name in enumerate(quoted))
    ends.source(f"create table odd ({columns}, primary key ({quoted[0]}, {quoted[2]}))")
    ends.source("insert into odd default values")
    table = Table("odd", key=("select", 'say "hi"'), load=Merge(), deletes=True)
    await ends.load(table)
    ends.source(f"insert into odd ({quoted[0]}) values ('two'); update odd set {quoted[8]} = 'new'")
    await ends.load(table)
    ends.source(f"delete from odd where {quoted[0]} = 'two'")
    result = await ends.load(table)
    assert result.counts.rows_deleted == 1
    assert ends.same("odd", ", ".join(quoted))


async def test_computed_columns_are_plain_columns_in_raw(ends: TwoEnds) -> None:
    ends.source(
        "create table computed (id bigint generated always as identity primary key, a int, "
        "stored int generated always as (a * 2) stored, virtual int generated always as (a * 3) virtual);"
        "insert into computed (a) values (1), (2)"
    )
    await ends.load(Table("computed", key="id", load=Replace()))
    assert ends.raw("select id, a, stored, virtual from raw_shop.computed order by id") == [(1, 1, 2, 3), (2, 2, 4, 6)]


async def test_a_partitioned_table_is_one_table_in_raw(ends: TwoEnds) -> None:
    ends.source(
        "create table parted (id int, part int, primary key (id, part)) partition by list (part);"
        "create table parted_1 partition of parted for values in (1);"
        "create table parted_2 partition of parted for values in (2);"
        "insert into parted select i, 1 + i % 2 from generate_series(1, 10) as i"
    )
    table = Table("parted", key=("id", "part"), load=Merge(), deletes=True)
    assert (await ends.load(table)).counts.rows_inserted == 10
    ends.source("update parted set part = 3 - part where id = 1")
    result = await ends.load(table)
    assert (result.counts.rows_inserted, result.counts.rows_deleted) == (1, 1)
    assert ends.same("parted", "id, part")


@pytest.mark.parametrize("kind", ["view", "materialized view"])
async def test_a_view_is_read_like_a_table(ends: TwoEnds, kind: str) -> None:
    ends.source(f"create {kind} cheap as select product_id, brand from products where product_id < 25006")
    assert (await ends.load(Table("cheap", key="product_id", load=Replace()))).counts.rows_inserted == 5


async def test_a_table_in_another_schema_is_found_there(ends: TwoEnds) -> None:
    with psycopg.connect(ends.shop.url("admin")) as admin:
        admin.execute(
            'create schema "Old Stuff" create table t (id int primary key); insert into "Old Stuff".t values (7)'
        )
        admin.execute('grant usage on schema "Old Stuff" to medallion_extractor')
        admin.execute('grant select on "Old Stuff".t to medallion_extractor')
    await ends.load(Table("t", schema="Old Stuff", key="id", load=Replace()))
    assert ends.raw("select id from raw_shop.t") == [(7,)]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("bigint", ("1", "2")),
        ("text", ("a'b", "A'B")),
        ("character(5)", ("ab", "b")),
        ("uuid", ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
        ("timestamptz", ("2024-01-01 00:00:00.000001+00", "infinity")),
        ("date", ("0044-03-15 BC", "2024-01-01")),
        ("numeric", ("1.50", "NaN")),
        ("double precision", ("0.1", "-Infinity")),
        ("bytea", ("\\x00", "\\xff")),
        ("amount", ("1.50", "2.50")),
        ("mood", ("sad", "HAPPY")),
        ("inet", ("10.0.0.1", "::1")),
        ("integer[]", ("{1,2}", "{}")),
        ("interval", ("1 mon", "1 day")),
        ("boolean", ("true", "false")),
    ],
)
async def test_keys_of_any_type_are_compared_and_found_deleted(
    ends: TwoEnds, kind: str, values: tuple[str, ...]
) -> None:
    """Both ends hash the key's text; where they hashed it differently, no load would ever be reconciliation."""
    ends.source(SETUP)
    ends.source(f"create table keyed (k {kind} primary key, v int)")
    for value in values:
        ends.source(f"insert into keyed values ({literal(value)}, 1)")
    table = Table("keyed", key="k", load=Merge(), deletes=True)
    assert (await ends.load(table)).counts.reconciliation == "match"
    ends.source(f"delete from keyed where k = {literal(values[0])}")
    result = await ends.load(table)
    assert (result.counts.rows_deleted, result.counts.reconciliation) == (1, "match")
    assert ends.same("keyed", "k, v")
