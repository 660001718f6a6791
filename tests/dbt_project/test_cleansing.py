"""The cleansing macros over tables of cases, in PostgreSQL, each as a model would call it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests.conftest import TestCluster, fresh_warehouse
from tests.dbt_project.macro_sql import RefusedByMacro, write


@pytest.fixture(scope="module")
def database(cluster: TestCluster) -> Iterator[psycopg.Connection[Any]]:
    with (
        fresh_warehouse(cluster) as warehouse,
        psycopg.connect(warehouse.url("transformer"), autocommit=True) as opened,
    ):
        opened.execute("set timezone = 'Asia/Tokyo'")  # nothing may depend on the session's zone
        yield opened


def over(database: psycopg.Connection[Any], expression: str, values: Sequence[str | None]) -> list[Any]:
    """What the expression gives for each value of a column `value`."""
    # What is doubled is meant for the driver, which takes a single one for a placeholder.
    written = expression.replace("%", "%%")
    query = f"select {written} from unnest(%s::text[]) with ordinality as cases (value, place) order by place"
    return [row[0] for row in database.execute(query.encode(), [list(values)]).fetchall()]


def test_null_empty_and_blank_become_the_same_word(database: psycopg.Connection[Any]) -> None:
    values = [None, "", "  \t\r\n", "\u00a0\u200b\u3000\ufeff", " 25-34 ", "\u202f25-34\u2003", "Unknown"]
    assert over(database, write("null_default", "value"), values) == ["Unknown"] * 4 + ["25-34"] * 2 + ["Unknown"]
    assert over(database, write("null_default", "value", "none"), [None]) == ["none"]


@pytest.mark.parametrize(
    ("type_", "cases"),
    [
        ("bigint", {"7": 7, " -7 ": -7, "9223372036854775808": None, "7.0": None, "seven": None, "": None}),
        ("bigint", dict.fromkeys(("0x1F", "0b11", "0o17", "1_000", "1e3", "NaN", "\uff17", "\u0667", "- 7", "+-7"))),
        (
            "numeric(10, 2)",
            {"10.00500": None, "10.500": Decimal("10.50"), "1e3": Decimal("1000.00"), "123456789": None},
        ),
        (
            "numeric(10, 2)",
            dict.fromkeys(("1,5", "NaN", "Infinity", "-inf", "0x1F", "1_000.5", "1e", ".", "$1", "1 000")),
        ),
        (
            "numeric",
            {"1e-7": Decimal("0.0000001"), ".5": Decimal("0.5"), "5.": Decimal(5), "nan": None, "1e9999": None},
        ),
        ("double precision", {"1.5": 1.5, "NaN": None, "Infinity": None, "-Infinity": None, "1e400": None}),
        ("boolean", {"true": True, "no": False, "1": True, "maybe": None}),
        ("uuid", {"6ecd8c99-4036-403d-bf84-cf8400f67836": "6ecd8c99-4036-403d-bf84-cf8400f67836", "6ecd8c99": None}),
    ],
)
def test_a_cast_or_null_gives_null_where_a_cast_would_stop_the_build(
    database: psycopg.Connection[Any], type_: str, cases: dict[str, Any]
) -> None:
    got = over(database, write("cast_or_null", "value", type_), [*cases, None])
    assert [str(value) if type_ == "uuid" and value else value for value in got] == [*cases.values(), None]


def test_days_moments_and_money_are_not_cast_but_read() -> None:
    """PostgreSQL casts `tomorrow` to a date, and `$1` as the server's locale says."""
    for kind in ("date", "timestamptz", "TIMESTAMP (3)", "money"):
        with pytest.raises(RefusedByMacro, match="cast_or_null: use"):
            write("cast_or_null", "value", kind)


def test_what_did_not_cast_is_kept_as_it_was_sent(database: psycopg.Connection[Any]) -> None:
    fields = {
        "a": ("value", write("cast_or_null", "value", "bigint")),
        "b": ("'1'", write("cast_or_null", "'1'", "bigint")),
    }
    assert over(database, write("unreadable", fields), ["1", "one", None]) == [None, {"a": "one"}, None]


ALL_FORMATS = ["iso", "compact", "us", "eu", "name"]


@pytest.mark.parametrize(
    ("formats", "cases"),
    [
        (
            ["iso"],
            {
                "2017-12-31": date(2017, 12, 31),
                " 2017-12-31\n": date(2017, 12, 31),
                "2017-12-31T23:15:00Z": date(2017, 12, 31),
                "2016-02-29": date(2016, 2, 29),
                **dict.fromkeys(
                    ("2017-02-29", "2017-13-01", "2017-00-10", "0017-12-31", "20171231", "12/31/2017", "2017-12-31x")
                ),
                **dict.fromkeys(("today", "infinity", "epoch", "yesterday", "", "2017-12-31; drop table x")),
                "\u00a02017-12-31\u200b": date(2017, 12, 31),
                "2017-12-31 23:15:59,5+05:30": date(2017, 12, 31),
                **dict.fromkeys(("2017-12-31T25:61:00Z", "2017-12-31T10:00 whatever", "2017-12-31T10", "2017-12-31T")),
                **dict.fromkeys(("2017-12-31T10:00+16:00", "2017-12-31T10:60", "2017-12-31 10:0000", "2017-12-31Z")),
            },
        ),
        (
            ["us", "eu"],
            {"03/04/2017": date(2017, 3, 4), "31/12/2017": date(2017, 12, 31), "1/5/2017": date(2017, 1, 5)},
        ),
        (
            ["eu", "us"],
            {"03/04/2017": date(2017, 4, 3), "12/31/2017": date(2017, 12, 31), "3.4.2017": date(2017, 4, 3)},
        ),
        (
            ALL_FORMATS,
            {
                "20171231": date(2017, 12, 31),
                "31 Dec 2017": date(2017, 12, 31),
                "31-december-2017": date(2017, 12, 31),
                "Dec 31, 2017": date(2017, 12, 31),
                "30 Feb 2017": None,
                "31 Brumaire 2017": None,
                "99999999": None,
                "171231": None,
                "Sept. 5, 2017": date(2017, 9, 5),
                "5 Sept 2017": date(2017, 9, 5),
                **dict.fromkeys(("Junk 5, 2020", "5 Maybe 2020", "5 Octopus 2020", "Marvin 5 2020", "Decent 5, 2020")),
                **dict.fromkeys(("31.12/2017", "3-4/2017", "31 Dec 2017 whatever", "Dec 2017", "31Dec2017")),
            },
        ),
    ],
)
def test_days_are_read_in_the_formats_named_and_no_other(
    database: psycopg.Connection[Any], formats: list[str], cases: dict[str, date | None]
) -> None:
    assert over(database, write("parse_date", "value", formats), [*cases, None]) == [*cases.values(), None]


def test_moments_are_read_in_several_formats_and_zones(database: psycopg.Connection[Any]) -> None:
    ten = datetime(2017, 12, 31, 10, tzinfo=UTC)
    cases: dict[str, datetime | None] = {
        "2017-12-31T10:00:00Z": ten,
        "2017-12-31 10:00 UTC": ten,
        "2017-12-31T11:00:00+01:00": ten,
        "2017-12-31T15:30:00.0+0530": ten,
        "2017-12-31 10:00:00,25Z": ten.replace(microsecond=250_000),
        "20171231T100000Z": ten,
        "1514714400": ten,
        "1514714400250": ten.replace(microsecond=250_000),
        "Sun, 31 Dec 2017 10:00:00 +0000": ten,
        "31 Dec 2017 05:00 -0500": ten,
        # On a clock in New York, five hours behind in winter and four in summer.
        "2017-12-31 05:00": ten,
        "12/31/2017 5:00 AM": ten,
        "12/31/2017, 05:00:00": ten,
        "2017-07-01T06:00:00": datetime(2017, 7, 1, 10, tzinfo=UTC),
        "2017-03-12 02:30": datetime(2017, 3, 12, 7, 30, tzinfo=UTC),  # left out that night: an hour later
        **dict.fromkeys(("now", "infinity", "tomorrow", "2017-12-31", "2017-02-30T10:00:00Z", "2017-12-31T25:00:00Z")),
        **dict.fromkeys(("31/12/2017 10:00", "10:00", "12345", "2017-12-31T10:00:00 Europe/Berlin", "")),
        "\u200b2017-12-31T10:00:00Z\u3000": ten,
        **dict.fromkeys(("2017-1231T10:00Z", "2017-12-31T10:0000Z", "2017-12-31T24:30Z", "12/31/2017 13:00 PM")),
    }
    got = over(database, write("parse_timestamp", "value", zone="America/New_York"), [*cases, None])
    assert dict(zip(cases, got, strict=False)) == cases
    assert got[-1] is None


def test_addresses_are_compared_in_one_form(database: psycopg.Connection[Any]) -> None:
    got = over(
        database,
        write("standard_email", "value"),
        [" Ada@EXAMPLE.com\n", "\u00a0Ada@example.COM\u200b", "", "  ", None],
    )
    assert got == ["ada@example.com"] * 2 + [None, None, None]


def test_an_address_is_wellformed_as_far_as_its_form_tells(database: psycopg.Connection[Any]) -> None:
    good = [
        *("a@b.co", "a.b+c@x-y.example", f"{'l' * 64}@example.com", "x@xn--bcher-kva.example", "a@1und1.de"),
        *("info@b\u00fccher.example", "x@\u4f8b\u3048.\u30c6\u30b9\u30c8", f"a@{'d' * 63}.com"),
    ]
    bad = [
        *("a", "a@b", "@b.co", "a@", "a@@b.co", "a b@c.de", "a..b@c.de", ".a@c.de", "a.@c.de", "a@-c.de", "a@c-.de"),
        *("a@c..de", "a@c.de.", "a@127.0.0.1", "a@c.d", f"{'l' * 65}@example.com", f"a@{'d' * 64}.com", "a@c.de\n"),
        *("a@b\u00a0c.de", "a@b\u200bc.de", "a@b\u3000c.de", f"a@{'d.' * 126}com"),
    ]
    got = over(database, write("email_is_wellformed", "value"), [*good, *bad])
    assert dict(zip([*good, *bad], got, strict=True)) == dict.fromkeys(good, True) | dict.fromkeys(bad, False)


# -- outliers

AMOUNTS = [10, 11, 12, 12, 13, 13, 13, 14, 15, 16, 120]


def bounds(database: psycopg.Connection[Any], relation: str, **options: object) -> list[tuple[Any, ...]]:
    return database.execute(write("outlier_bounds", relation, "amount", **options).encode()).fetchall()


def table_of(amounts: Sequence[float | None]) -> str:
    listed = ", ".join(
        f"({'null::numeric' if amount is None else amount}, {n % 2})" for n, amount in enumerate(amounts)
    )
    return f"(values {listed}) as given (amount, half)"


def test_fences_stand_where_tukey_put_them(database: psycopg.Connection[Any]) -> None:
    """Quartiles 12 and 14.5 of these; 1.5 times their distance away."""
    ((lower, upper),) = bounds(database, table_of([*AMOUNTS, None]), method="iqr", factor=1.5)
    assert (lower, upper) == pytest.approx((8.25, 18.25))


def test_a_z_score_measures_by_the_standard_deviation(database: psycopg.Connection[Any]) -> None:
    ((lower, upper),) = bounds(database, table_of([2, 4, 4, 4, 5, 5, 7, 9]), method="z_score", factor=3)
    assert (lower, upper) == pytest.approx((5 - 3 * 2.138089935, 5 + 3 * 2.138089935))


def test_bounds_among_logarithms_come_back_as_amounts(database: psycopg.Connection[Any]) -> None:
    """Powers of two are evenly spread by their logarithms, so none of them is far out. Nothing sold is no amount."""
    powers = [2**n for n in range(9)]
    ((lower, upper),) = bounds(database, table_of([*powers, 0, -5]), factor=1.5, scale="log")
    assert (lower, upper) == pytest.approx((2.0**-4, 2.0**12))


def test_each_group_has_bounds_of_its_own_and_a_handful_has_none(database: psycopg.Connection[Any]) -> None:
    found = {half: upper for half, _, upper in bounds(database, table_of([*range(16), 99]), by="half")}
    assert set(found) == {0, 1}
    assert found[0] > found[1]
    assert bounds(database, table_of([1, 2, 3])) == [(None, None)]


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("method", ["iqr", "z_score"])
@pytest.mark.parametrize("amount", ["5", "0.1", "123456789.01", "1e-9"])
def test_values_that_are_all_equal_are_no_outliers(
    database: psycopg.Connection[Any], method: str, scale: str, amount: str
) -> None:
    written = write("outlier_bounds", "given", "amount", method=method, scale=scale)
    query = f"""
        with given (amount) as (select {amount}::numeric from generate_series(1, 1001)), bounds as ({written})
        select count(*) filter (where {write("is_outlier", "amount")}), count(*) filter (
            where {write("is_outlier", "amount * 1.001")}
        ) from given cross join bounds
    """
    assert database.execute(query.encode()).fetchall() == [(0, 1001)]


@pytest.mark.parametrize("method", ["iqr", "z_score"])
@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("odd", ["'NaN'", "'Infinity'", "'-Infinity'", "1e200", "-1e200"])
@pytest.mark.parametrize("type_", ["numeric", "double precision"])
def test_one_value_of_which_no_sum_is_left_changes_no_bounds(
    database: psycopg.Connection[Any], method: str, scale: str, odd: str, type_: str
) -> None:
    expected = bounds(database, table_of(AMOUNTS), method=method, scale=scale)
    listed = ", ".join(f"({amount}::{type_})" for amount in [*AMOUNTS, odd])
    got = bounds(database, f"(values {listed}) as given (amount)", method=method, scale=scale)
    assert got[0] == pytest.approx(expected[0])


def test_bounds_of_huge_spreads_stop_no_build(database: psycopg.Connection[Any]) -> None:
    ((lower, upper),) = bounds(database, table_of([1e-140, 1e140] * 6), method="z_score", factor=9, scale="log")
    assert 0 < lower < 1e-140 < 1e140 < upper
    query = f"select {write('clipped', 'amount', '10', '20')} from (values ('NaN'::numeric), (9)) as given (amount)"
    assert database.execute(query.encode()).fetchall() == [(None,), (10,)]


def test_outliers_are_flagged_or_drawn_in(database: psycopg.Connection[Any]) -> None:
    query = f"""
        select {write("is_outlier", "amount", "10", "20")}, {write("clipped", "amount", "10", "20")}
        from (values (9), (10), (20), (21), (null)) as given (amount)
    """
    got = database.execute(query.encode()).fetchall()
    assert got == [(True, 10), (False, 10), (False, 20), (True, 20), (False, None)]
    without = f"select {write('is_outlier', '5', 'null', 'null')}, {write('clipped', '5', 'null', 'null')}"
    assert database.execute(without.encode()).fetchall() == [(False, 5)]


# -- hierarchies, ranking, distances


def tree(database: psycopg.Connection[Any], nodes: str) -> dict[str, tuple[int, str, str]]:
    written = write("hierarchy", "nodes", "id", "parent", "name")
    query = f"with recursive nodes (id, parent, name) as (values {nodes}), tree as ({written}) select * from tree"
    return {row[0]: (row[3], row[4], row[6]) for row in database.execute(query.encode()).fetchall()}


def test_a_tree_is_resolved_with_depth_path_and_root(database: psycopg.Connection[Any]) -> None:
    nodes = "('c', 'b', 'Cheddar'), ('a', null, 'Grocery'), ('b', 'a', 'Cheese'), ('d', null, 'Fuel')"
    assert tree(database, nodes) == {
        "a": (1, "Grocery", "a"),
        "b": (2, "Grocery > Cheese", "a"),
        "c": (3, "Grocery > Cheese > Cheddar", "a"),
        "d": (1, "Fuel", "d"),
    }


def test_a_node_without_its_parent_stands_at_the_root_and_a_ring_never_runs_for_ever(
    database: psycopg.Connection[Any],
) -> None:
    nodes = "('a', 'missing', 'Lost'), ('b', 'c', 'Hen'), ('c', 'b', 'Egg')"
    assert tree(database, nodes) == {"a": (1, "Lost", "a")}


def test_the_newest_copy_of_a_key_ranks_first_and_the_later_load_where_clocks_tie(
    database: psycopg.Connection[Any],
) -> None:
    query = f"""
        select name from (
            select *, {write("newest_first", "key")} as recency
            from (values (1, 5, 1, 'old'), (1, 7, 1, 'tied'), (1, 7, 2, 'newest'), (2, 1, 9, 'only'))
                as given (key, updated_at, _batch_id, name)
        ) as ranked
        where recency = 1 order by key
    """
    assert database.execute(query.encode()).fetchall() == [("newest",), ("only",)]


@pytest.mark.parametrize(
    ("here", "there", "kilometres"),
    [
        ((52.5163, 13.3777), (48.8584, 2.2945), 879.1),  # Berlin to Paris
        ((40.7128, -74.0060), (34.0522, -118.2437), 3935.8),  # New York to Los Angeles
        ((0, 0), (0, 180), 20015.1),  # half way round, where rounding makes a sine greater than one
        ((90, 0), (-90, 0), 20015.1),
        ((10, 179.9), (10, -179.9), 21.9),  # across the date line
        ((39.1, -84.5), (39.1, -84.5), 0),
    ],
)
def test_distances_are_those_of_the_globe(
    database: psycopg.Connection[Any], here: tuple[float, float], there: tuple[float, float], kilometres: float
) -> None:
    query = f"select {write('distance_km', *here, *there)}"
    assert database.execute(query.encode()).fetchall()[0][0] == pytest.approx(kilometres, abs=0.06)
    unknown = f"select {write('distance_km', here[0], 'null::numeric', *there)}"
    assert database.execute(unknown.encode()).fetchall() == [(None,)]
