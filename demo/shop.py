"""Fill the demo shop: day one is everything sold before the last day of 2017, day two is what changes after it."""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from importlib import resources
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import psycopg
from psycopg import sql

from demo.contacts import contact_of
from demo.dataset import read_rows
from demo.day_two import DELETED_PRODUCT, RENAMED_PRODUCT
from demo.keys import set_keys_aside
from demo.places import place_of_household, place_of_store
from demo.sales import Sales, copy_baskets, copy_lines, read_sales

# Two servers' worth of COPY on two cores: 1.3 s over one connection, 0.8 s over two, 0.7 s over three.
_LINE_CONNECTIONS = 2
_BULK_TABLES = ("baskets", "basket_items")
_OPENED_AT = datetime(2017, 1, 1, tzinfo=UTC)
_EMPTY_THE_SHOP = """
    drop table if exists basket_items, baskets, products, stores, household_events, households cascade;
    drop function if exists log_household_event cascade;
    drop type if exists brand_kind, income_band cascade;
"""
_DEMOGRAPHICS = ("age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count")
_PRODUCT = ("manufacturer_id", "department", "brand", "product_category", "product_type", "package_size")

Progress = Callable[[str], None]
Result = TypeVar("Result")


def load_day_one(url: str, on_progress: Progress | None = None, *, households: int | None = None) -> dict[str, int]:
    """Put the shop at the evening of 30 December 2017, whatever it held before; returns the rows of each table.

    `url` is that of the role that owns the shop's tables. A few baskets of 28 December are missing: they arrive late,
    on day two. With `households` only the first so many households and what they bought: 60 make 35,000 lines, for
    tests. Raises psycopg.Error when the database refuses; a load that was interrupted is repaired by loading again.
    """
    report = on_progress or (lambda message: None)
    everything = read_sales(households)
    sales = everything.where(~everything.of_last_day() & ~everything.arriving_late())
    with _connect(url) as connection, connection.transaction():
        connection.execute(_EMPTY_THE_SHOP)
        connection.execute((resources.files("demo") / "shop.sql").read_bytes())
        aside = set_keys_aside(connection, _BULK_TABLES)
    report("tables created")

    edges = np.linspace(0, len(sales), _LINE_CONNECTIONS + 1).astype(int)
    parts = [sales.part(start, stop) for start, stop in pairwise(edges)]
    with ThreadPoolExecutor() as workers:
        lines = [workers.submit(_in_own_connection, url, partial(copy_lines, sales=part)) for part in parts]
        small = workers.submit(
            _in_own_connection, url, partial(_fill_small_tables, everything=everything, whole=households is None)
        )
        baskets = workers.submit(_in_own_connection, url, partial(copy_baskets, sales=sales))
        counts: dict[str, int] = small.result() | {"baskets": baskets.result()}
        counts["basket_items"] = sum(part.result() for part in lines)
    report(f"{counts['basket_items']:,} lines of {counts['baskets']:,} baskets copied")

    with _connect(url) as connection:
        # The default of 64 MB would sort the lines' keys on disk.
        connection.execute("set maintenance_work_mem = '256MB'")
        for statement in (*aside.indexes, *aside.foreign_keys):
            connection.execute(statement.encode())
        connection.execute("analyze")
    report("keys and indexes built")
    return counts


def _connect(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(url, autocommit=True, options="-c synchronous_commit=off -c client_min_messages=warning")


def _in_own_connection(url: str, work: Callable[[psycopg.Connection[Any]], Result]) -> Result:
    with _connect(url) as connection, connection.transaction():
        return work(connection)


def _fill_small_tables(connection: psycopg.Connection[Any], everything: Sales, whole: bool) -> dict[str, int]:
    counts = {
        "households": _copy_rows(connection, "households", household_rows(everything)),
        "stores": _copy_rows(connection, "stores", store_rows(everything)),
        "products": _copy_rows(connection, "products", product_rows(everything, whole)),
    }
    events = connection.execute("select count(*) from household_events").fetchone()
    return counts | {"household_events": events[0] if events else 0}


def household_rows(sales: Sales) -> Iterable[tuple[Any, ...]]:
    """A household's row dates from its first purchase: the file is ordered by time."""
    told = {row[0]: row[1:] for row in read_rows("demographics", ("household_id", *_DEMOGRAPHICS))}
    numbers, first_lines = np.unique(sales.household_id, return_index=True)
    for household_id, first_line in zip(numbers.tolist(), first_lines, strict=True):
        contact = contact_of(household_id)
        home = place_of_household(household_id, int(sales.store_id[first_line]))
        yield (
            household_id,
            contact.full_name,
            contact.email,
            contact.phone,
            *told.get(household_id, (None,) * len(_DEMOGRAPHICS)),
            json.dumps(contact.preferences),
            _moment(sales.sold_at[first_line]),
            home.latitude,
            home.longitude,
        )


def store_rows(sales: Sales) -> Iterable[tuple[Any, ...]]:
    numbers, first_lines = np.unique(sales.store_id, return_index=True)
    for store_id, first_line in zip(numbers.tolist(), first_lines, strict=True):
        opened = _moment(sales.sold_at[first_line])
        place = place_of_store(store_id)
        yield store_id, f"Store {store_id}", opened.date(), opened, place.region, place.latitude, place.longitude


def product_rows(sales: Sales, whole: bool) -> Iterable[tuple[Any, ...]]:
    rows = read_rows("products", ("product_id", *_PRODUCT))
    sold = set(np.unique(sales.product_id).tolist())
    unknown = sold - {row[0] for row in rows}
    rows.extend((product_id, None, "UNKNOWN", None, None, None, None) for product_id in sorted(unknown))
    wanted = sold | {DELETED_PRODUCT, RENAMED_PRODUCT}
    return ((*row, _OPENED_AT) for row in rows if whole or row[0] in wanted)


def _copy_rows(connection: psycopg.Connection[Any], table: str, rows: Iterable[tuple[Any, ...]]) -> int:
    count = 0
    with (
        connection.cursor() as cursor,
        cursor.copy(sql.SQL("copy {} from stdin").format(sql.Identifier(table))) as copy,
    ):
        for count, row in enumerate(rows, start=1):  # noqa: B007 - the last count is the result
            copy.write_row(row)
    return count


def _moment(microseconds: np.int64) -> datetime:
    return datetime.fromtimestamp(int(microseconds) / 1_000_000, tz=UTC)
