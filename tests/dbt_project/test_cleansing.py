"""The cleansing macros over tables of cases, in PostgreSQL, each as a model would call it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests.conftest import TestCluster, fresh_warehouse
from tests.dbt_project.macro_sql import write


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
    query = f"select {expression} from unnest(%s::text[]) with ordinality as cases (value, place) order by place"
    return [row[0] for row in database.execute(query.encode(), [list(values)]).fetchall()]


def test_null_empty_and_blank_become_the_same_word(database: psycopg.Connection[Any]) -> None:
    values = [None, "", "  \t\r\n", " 25-34 ", "Unknown"]
    assert over(database, write("null_default", "value"), values) == ["Unknown"] * 3 + ["25-34", "Unknown"]
    assert over(database, write("null_default", "value", "none"), [None]) == ["none"]


@pytest.mark.parametrize(
    ("type_", "cases"),
    [
        ("bigint", {"7": 7, " -7 ": -7, "9223372036854775808": None, "7.0": None, "seven": None, "": None}),
        ("numeric(10, 2)", {"10.005": Decimal("10.01"), "1e3": Decimal("1000.00"), "123456789": None, "1,5": None}),
        ("boolean", {"true": True, "no": False, "1": True, "maybe": None}),
        ("uuid", {"6ecd8c99-4036-403d-bf84-cf8400f67836": "6ecd8c99-4036-403d-bf84-cf8400f67836", "6ecd8c99": None}),
    ],
)
def test_a_cast_or_null_gives_null_where_a_cast_would_stop_the_build(
    database: psycopg.Connection[Any], type_: str, cases: dict[str, Any]
) -> None:
    got = over(database, write("cast_or_null", "value", type_), [*cases, None])
    assert [str(value) if type_ == "uuid" and value else value for value in got] == [*cases.values(), None]


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
    }
    got = over(database, write("parse_timestamp", "value", zone="America/New_York"), [*cases, None])
    assert dict(zip(cases, got, strict=False)) == cases
    assert got[-1] is None


def test_addresses_are_compared_in_one_form(database: psycopg.Connection[Any]) -> None:
    got = over(database, write("standard_email", "value"), [" Ada@EXAMPLE.com\n", "", "  ", None])
    assert got == ["ada@example.com", None, None, None]


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
