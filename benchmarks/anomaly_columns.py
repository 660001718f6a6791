"""Columns and arrivals of the real year for `python -m benchmarks.anomalies`: what is found, and what is a false alarm.

Each day of a table is profiled by the statement that loads use, as it is and with one column changed, and compared by
the code that the watch uses. The control compares null shares, distinct values, medians and the greatest share with
mean and standard deviation of the last 56 days, whatever their weekday.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import psycopg

from demo.dataset import read_rows
from flows.operations.arrivals import usual_arrival
from flows.operations.columns import ColumnDay
from flows.operations.compared_columns import unusual
from flows.quality.profile import Profiling, profiled_columns, statement
from flows.values.settings import Settings
from flows.values.shape import Column, Shape

_ITEMS = (
    ("id", "bigint"), ("basket_id", "bigint"), ("household_id", "text"), ("store_id", "integer"),
    ("product_id", "integer"), ("quantity", "integer"), ("sales_value", "numeric"), ("retail_disc", "numeric"),
    ("coupon_disc", "numeric"), ("department", "text"), ("product_category", "text"), ("sold_at", "timestamp"),
)  # fmt: skip
#: As loads do by default.
_ROWS: int = Settings().profile_rows
_CREATE = "create unlogged table {name} ({columns})"
_BASKETS = """
create unlogged table baskets as
select basket_id, min(household_id) as household_id, min(store_id) as store_id, count(*)::integer as lines,
    sum(quantity)::bigint as quantity, sum(sales_value) as sales_value, min(sold_at) as sold_at
from items group by basket_id
"""

# Every second row has the id of the one before it.
_DUPLICATED = (
    "with n as materialized (select {0}, row_number() over (order by {0}) as place from landed) "
    "update landed as l set {0} = former.{0} from n inner join n as former on former.place = n.place - 1 "
    "where l.{0} = n.{0} and n.place % 2 = 0"
)


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one day's rows: SQL over the table `landed`, and the column that should be noticed."""

    case: str
    column: str
    sql: str


#: By the kind of table; `{least}` is a category with at least 5 % of the rows, another one each day.
CHANGES: Mapping[str, Sequence[Change]] = {
    "items": (
        Change("10 % nulls", "department", "update landed set department = null where hashint8(id) % 10 = 0"),
        Change("50 % nulls", "product_id", "update landed set product_id = null where hashint8(id) % 2 = 0"),
        Change("a category vanishes", "department", "delete from landed where department = {category}"),
        Change("values times 100", "sales_value", "update landed set sales_value = sales_value * 100"),
        Change("texts truncated", "product_category", "update landed set product_category = left(product_category, 5)"),
        Change("duplicated ids", "id", _DUPLICATED.format("id")),
        Change("a column is constant", "store_id", "update landed set store_id = 367"),
    ),
    "baskets": (
        Change("10 % nulls", "store_id", "update landed set store_id = null where hashint8(basket_id) % 10 = 0"),
        Change("50 % nulls", "household_id", "update landed set household_id = null where hashint8(basket_id) % 2 = 0"),
        Change("values times 100", "sales_value", "update landed set sales_value = sales_value * 100"),
        Change("texts truncated", "household_id", "update landed set household_id = left(household_id, 1)"),
        Change("duplicated ids", "basket_id", _DUPLICATED.format("basket_id")),
        Change("a column is constant", "lines", "update landed set lines = 1"),
    ),
}


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the year: the rows of `relation` under a condition."""

    name: str
    relation: str
    condition: str = "true"


@dataclass(frozen=True, slots=True)
class Injected:
    """One kind of change, over all tables of a kind: days that were changed, and the share found, in percent."""

    kind: str
    case: str
    tables: int
    days: int
    noticed: float
    noticed_by_control: float


Days = dict[str, list[ColumnDay]]


class Year:
    """The year's rows in a database, and profiles of its days."""

    def __init__(self, connection: psycopg.Connection, days: Sequence[date], holidays: Collection[date]) -> None:
        """Fill the database, in its own tables."""
        self.connection, self.days, self.holidays = connection, days, holidays
        self._batches = 0
        columns = ", ".join(f"{name} {kind}" for name, kind in _ITEMS)
        connection.execute(_CREATE.format(name="items", columns=columns).encode())
        products = {row[0]: row[1:] for row in read_rows("products", ["product_id", "department", "product_category"])}
        names = ["basket_id", "household_id", "store_id", "product_id", "quantity", "sales_value", "retail_disc",
                 "coupon_disc", "transaction_timestamp"]  # fmt: skip
        with connection.cursor().copy("copy items from stdin") as copy:
            for number, row in enumerate(read_rows("transactions", names)):
                *facts, at = row
                copy.write_row((number, *facts, *products.get(row[3], (None, None)), at))
        connection.execute(_BASKETS)
        for relation in ("items", "baskets"):
            connection.execute(f"create index on {relation} ((sold_at::date))".encode())
            connection.execute(f"analyze {relation}".encode())

    def profiles(self, table: Table) -> Days:
        """All days of a table by column, as they are."""
        columns: Days = {}
        for day in self.days:
            for name, found in self.profile(table, day).items():
                columns.setdefault(name, []).append(found)
        return columns

    def profile(self, table: Table, day: date, change: str = "") -> dict[str, ColumnDay]:
        """One day by column, changed or not."""
        self._batches += 1
        run = self.connection.execute
        run("drop table if exists landed")
        run(
            f"create unlogged table landed as select * from {table.relation} "
            f"where sold_at::date = '{day}' and {table.condition}".encode()
        )
        if change:
            run(change.encode())
        (rows,) = run("select count(*) from landed").fetchone() or (0,)
        if not rows:
            return {}
        shape = Shape(tuple(Column(name, kind, name) for name, kind in self._types()))
        run("insert into ops.loads (batch_id, source_system, table_name, strategy) overriding system value "
            "values (%s, 'year', 'table', 'merge')", [self._batches])  # fmt: skip
        columns = profiled_columns(shape, (), Profiling(_ROWS))
        run(statement("landed", columns, rows, _ROWS).replace("$1", str(self._batches)).encode())
        found = run(
            "select column_name, rows, null_share, distinct_values, quantiles, shares from ops.profiles "
            "where batch_id = %s", [self._batches]
        )  # fmt: skip
        return {name: ColumnDay(day, 1, *facts) for name, *facts in found}

    def _types(self) -> list[tuple[str, str]]:
        return self.connection.execute(
            "select attname::text, format_type(atttypid, null) from pg_attribute "
            "where attrelid = 'landed'::regclass and attnum > 0 order by attnum"
        ).fetchall()

    def categories(self, table: Table) -> list[str]:
        """Departments with at least 5 % of the table's rows, as literals."""
        found = self.connection.execute(
            f"select quote_literal(department), count(*) from items where {table.condition} group by 1".encode()
        ).fetchall()
        total = sum(rows for _, rows in found)
        return sorted(name for name, rows in found if rows >= 0.05 * total)

    def arrivals(self, table: Table) -> dict[date, float]:
        """Minutes after midnight of each day's first row."""
        found = self.connection.execute(
            f"select sold_at::date, extract(epoch from min(sold_at) - date_trunc('day', min(sold_at)))::float8 / 60 "
            f"from {table.relation} where {table.condition} group by 1".encode()
        )
        return dict(found.fetchall())

    def unusual_days(self, columns: Days, first: date) -> dict[date, set[tuple[str, str, str]]]:
        """What is unusual on each day of the unchanged year, by column, measure and state."""
        found: dict[date, set[tuple[str, str, str]]] = {}
        for name, days in columns.items():
            for place, today in enumerate(days):
                if today.day >= first and today.day not in self.holidays:
                    for each in self._compared(name, days[:place], today):
                        found.setdefault(today.day, set()).add((name, each[0], each[1]))
        return found

    def days_that_stand_out(self, columns: Days, first: date) -> dict[date, set[str]]:
        """The same by the control."""
        found: dict[date, set[str]] = {}
        for name, days in columns.items():
            usual_days = [each for each in days if each.day not in self.holidays]
            for place, today in enumerate(usual_days):
                if today.day >= first and _stands_out(usual_days[:place], today):
                    found.setdefault(today.day, set()).add(name)
        return found

    def late_days(self, table: Table, first: date) -> set[date]:
        """Days of the unchanged year on which the first row is late."""
        days = self.arrivals(table)
        return {day for day in days if day >= first and day not in self.holidays and self._is_late(days, day, 0)}

    def _compared(self, name: str, earlier: Sequence[ColumnDay], today: ColumnDay) -> list[tuple[str, str]]:
        first = today.day - timedelta(days=70)
        days = [each for each in earlier if each.day >= first and each.day not in self.holidays]
        return [(each.measure, each.state) for each in unusual(name, days, today)]

    def _is_late(self, days: Mapping[date, float], day: date, later: float) -> bool:
        known = usual_arrival([each for each in days.items() if each[0] not in self.holidays], day)
        return not known.is_learning and days[day] + later > known.highest

    def injected(self, kind: str, tables: Mapping[Table, Days], first: date, times: int) -> list[Injected]:
        """Each change, on so many days of each table."""
        chance = random.Random(18)
        possible = [day for day in self.days if day >= first and day not in self.holidays]
        results = []
        for change in CHANGES[next(iter(tables)).relation]:
            hits = control = changed = 0
            for table, columns in tables.items():
                categories = self.categories(table) if "{category}" in change.sql else []
                if "{category}" in change.sql and len(categories) < 2:
                    continue  # a department's own table has one
                for day in chance.sample(possible, times):
                    sql = change.sql.format(category=chance.choice(categories)) if categories else change.sql
                    today = self.profile(table, day, sql).get(change.column)
                    if today is None:
                        continue
                    earlier = [each for each in columns[change.column] if each.day < day]
                    changed += 1
                    hits += bool(self._compared(change.column, earlier, today))
                    control += _stands_out(earlier, today)
            if changed:
                results.append(_injected(kind, change.case, len(tables), changed, hits, control))
        hits = control = changed = 0
        for table in tables:
            days = self.arrivals(table)
            for day in chance.sample(possible, times):
                if day in days:
                    changed += 1
                    hits += self._is_late(days, day, 180)
                    before = [days[each] for each in (day - timedelta(days=n) for n in range(1, 57)) if each in days]
                    control += days[day] + 180 > statistics.mean(before) + 4 * statistics.stdev(before)
        return [*results, _injected(kind, "three hours late", len(tables), changed, hits, control)]


def _injected(kind: str, case: str, tables: int, days: int, hits: int, control: int) -> Injected:
    return Injected(kind, case, tables, days, round(100 * hits / days, 1), round(100 * control / days, 1))


def _stands_out(earlier: Sequence[ColumnDay], today: ColumnDay) -> bool:
    """The control: four deviations from the mean of the last 56 days, of any of four numbers."""
    numbers: tuple[Callable[[ColumnDay], float | None], ...] = (
        lambda day: day.null_share,
        lambda day: day.distinct_values,
        lambda day: day.quantiles[10] if day.quantiles else None,
        lambda day: max(day.shares) if day.shares else None,
    )
    first = today.day - timedelta(days=56)
    for number in numbers:
        before = [value for day in earlier if day.day >= first and (value := number(day)) is not None]
        value = number(today)
        if value is None or len(before) < 2:
            continue
        if abs(value - statistics.mean(before)) > 4 * statistics.stdev(before):
            return True
    return False
