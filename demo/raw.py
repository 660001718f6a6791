"""Fill raw schemas straight from the dataset, as the loads of a quiet day leave them.

Proofs and benchmarks of what comes after raw need neither shop nor API for it. The tables must be there, as a load
makes them, with metadata columns that have defaults. Nothing is corrected, late or deleted: the dataset is all there
is.
"""

import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.csv as csv
import pyarrow.parquet as parquet
from psycopg import sql

from demo.commerce.day import Day
from demo.commerce.records import collections_of
from demo.dataset import path_of
from demo.sales import copy_baskets, copy_lines, read_sales
from demo.shop import household_rows, product_rows, store_rows

_COLUMNS = {
    "households": (
        "household_id", "full_name", "email", "phone", "age_band", "income_band", "home_ownership", "marital_status",
        "household_size", "household_comp", "kids_count", "preferences", "updated_at", "latitude", "longitude",
    ),
    "stores": ("store_id", "name", "first_sale_on", "updated_at", "region", "latitude", "longitude"),
    "products": (
        "product_id", "manufacturer_id", "department", "brand", "product_category", "product_type", "package_size",
        "updated_at",
    ),
}  # fmt: skip

PROMOTIONS = """
    create table raw_shop.promotions (
        promotion_id bigint not null,
        product_id bigint not null,
        store_id bigint not null,
        week_starts_on date not null,
        display_location text not null,
        mailer_location text not null,
        updated_at timestamptz not null default '2017-01-01 00:00+00',
        _extracted_at timestamptz not null default now(),
        _source_system text not null default 'shop',
        _batch_id bigint not null default 1,
        _deleted_at timestamptz
    )
"""
"""Raw's table of promotions. The demo's shop has none: 20.9 million rows are too many for a first look."""


def fill_raw(connection: psycopg.Connection[Any], households: int | None = None) -> int:
    """Fill `raw_shop`, `raw_marketing` and `raw_currency`; returns the lines of all sales.

    With `households` only of those of households 1 to so many. Leaves the transaction to the caller. Raises
    psycopg.Error when the tables are missing or not empty.
    """
    sales = read_sales(households)
    connection.execute("set local search_path = raw_shop")
    _copy(connection, "households", household_rows(sales))
    _copy(connection, "stores", store_rows(sales))
    _copy(connection, "products", product_rows(sales, whole=households is None))
    copy_baskets(connection, sales)
    lines = copy_lines(connection, sales)
    for endpoint, collection in collections_of(Day(2, datetime(2018, 1, 1, tzinfo=UTC))).items():
        schema = "raw_currency" if endpoint == "exchange_rates" else "raw_marketing"
        with (
            connection.cursor() as cursor,
            cursor.copy(
                sql.SQL("copy {} (id, updated_at, payload) from stdin").format(sql.Identifier(schema, endpoint))
            ) as copy,
        ):
            for position, body in zip(collection.positions, collection.bodies, strict=True):
                updated_at = datetime.fromtimestamp(position.updated_at / 1_000_000, tz=UTC)
                copy.write_row((position.identity, updated_at, body.decode()))
    connection.execute("set local search_path to default")
    return lines


def fill_promotions(connection: psycopg.Connection[Any], stores: Sequence[int] | None = None) -> int:
    """Create `raw_shop.promotions` and fill it with all 20.9 million placements, or those in some stores.

    A placement's number is its place in the file, from 1. Week 1 began on 2017-01-01. Returns the rows.
    """
    connection.execute(PROMOTIONS)
    rows = 0
    with (
        parquet.ParquetFile(path_of("promotions")) as file,
        connection.cursor() as cursor,
        cursor.copy(
            "copy raw_shop.promotions "
            "(promotion_id, product_id, store_id, display_location, mailer_location, week_starts_on) "
            "from stdin (format csv)"
        ) as copy,
    ):
        place = 0
        for batch in file.iter_batches(1_000_000):
            table = pa.Table.from_batches([batch])
            numbers = pa.array(range(place + 1, place + 1 + len(table)))
            place += len(table)
            first_days = compute.add(
                pa.scalar(17167, pa.int32()),  # 2017-01-01, as days since 1970
                compute.multiply(
                    compute.cast(compute.subtract(table["week"], 1), pa.int32()), pa.scalar(7, pa.int32())
                ),
            ).cast(pa.date32())
            table = table.drop_columns(["week"]).add_column(0, "promotion_id", numbers)
            table = table.append_column("week_starts_on", first_days)
            if stores is not None:
                table = table.filter(compute.is_in(table["store_id"], pa.array(stores, pa.int64())))
            rows += len(table)
            text = io.BytesIO()
            csv.write_csv(table, text, csv.WriteOptions(include_header=False))
            copy.write(text.getvalue())
    return rows


def _copy(connection: psycopg.Connection[Any], table: str, rows: Iterable[tuple[Any, ...]]) -> None:
    columns = sql.SQL(", ").join(sql.Identifier(column) for column in _COLUMNS[table])
    statement = sql.SQL("copy {} ({}) from stdin").format(sql.Identifier(table), columns)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
