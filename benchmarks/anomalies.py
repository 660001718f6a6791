"""`python -m benchmarks.anomalies`: which changed days of a real year are noticed, and how many real days are, too.

The year is that of the demo's shop: its tables of lines and baskets, and, as smaller ones, the lines of a department or
a store, of which many have fewer than a hundred a day.
Days are then halved, cut by 30 %, or doubled, one per copy of a table, and the query that the watch uses compares them.
The control compares the same days by mean and standard deviation of the last 56 days, whatever their weekday.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path

import asyncpg
import psycopg

from benchmarks.anomaly_columns import Days, Injected, Table, Year
from benchmarks.cluster import Bench, private_cluster
from demo.dataset import read_rows
from flows.operations.volumes import Volume, volumes

_RESULTS = Path(__file__).with_name("results")
_YEAR = [date(2017, 1, 1) + timedelta(days=n) for n in range(365)]
#: Eight equal weekdays must be known before a day is compared.
_FIRST = _YEAR[9 * 7]
#: When the shops of the data are closed or besieged.
_HOLIDAYS = [
    date(2017, month, day)
    for month, day in ((1, 1), (1, 2), (4, 16), (5, 29), (7, 4), (9, 4), (11, 22), (11, 23), (11, 24), (12, 24),
                       (12, 25), (12, 26), (12, 31))
]  # fmt: skip
_CHANGES = {"halved": 0.5, "less 30 %": 0.7, "doubled": 2.0}
_INSERT = """
insert into ops.loads (source_system, table_name, strategy, status, rows_read, rows_inserted, rows_updated,
    rows_unchanged, rows_deduplicated, rows_quarantined, rows_deleted, started_at)
select 'year', t, 'merge', 'published', n, n, 0, 0, 0, 0, 0, d::timestamp at time zone 'UTC'
from unnest($1::text[], $2::date[], $3::bigint[]) as l (t, d, n)
"""

Series = Mapping[date, int]


@dataclass(frozen=True, slots=True)
class Measured:
    """One case, over all tables: days that were compared, and the share of them that was noticed, in percent."""

    kind: str
    case: str
    tables: int
    days: int
    noticed: float
    noticed_by_control: float


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The untouched year, per table and year: days noticed, and those that are sent, because it is the second."""

    kind: str
    case: str
    tables: int
    noticed: float
    sent: float


def main() -> None:
    """Judge the year, print, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anomalies", description=__doc__)
    parser.add_argument("--days", type=int, default=60, help="days with another volume, per table and kind of change")
    parser.add_argument("--column-days", type=int, default=20, help="days with a changed column, per table and change")
    options = parser.parse_args()
    tables = _tables()
    with private_cluster() as bench:
        results: list[Measured | Unchanged | Alarms | Injected] = []
        for kind in ("table", "department", "store"):
            chosen = {name: series for name, series in tables.items() if name.startswith(kind)}
            results += asyncio.run(_measure(bench, kind, chosen, options.days))
        results += _columns(bench, tables, options.column_days)
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / "anomalies.json").write_text(json.dumps([asdict(one) for one in results], indent=2) + "\n")
    for one in results:
        print(asdict(one))


def _tables() -> dict[str, dict[date, int]]:
    """Rows per day, by name of the table: `table …`, `department …`, `store …`."""
    department = dict(read_rows("products", ["product_id", "department"]))
    found: dict[str, Counter[date]] = defaultdict(Counter)
    baskets = set()
    for at, store, product, basket in read_rows(
        "transactions", ["transaction_timestamp", "store_id", "product_id", "basket_id"]
    ):
        day = at.date()
        for name in ("table basket_items", f"store {store}", f"department {department.get(product)}"):
            found[name][day] += 1
        if basket not in baskets:
            baskets.add(basket)
            found["table baskets"][day] += 1
    names = ["table basket_items", "table baskets"]
    for kind, count in (("store", 10), ("department", 8)):
        of_kind = [name for name in found if name.startswith(kind)]
        names += sorted(of_kind, key=lambda name: -found[name].total())[:count]
    return {name: {day: found[name][day] for day in _YEAR} for name in names}


async def _measure(bench: Bench, kind: str, tables: Mapping[str, Series], days: int) -> list[Measured | Unchanged]:
    chance = random.Random(17)
    results: list[Measured | Unchanged] = []
    connection = await asyncpg.connect(bench.warehouse)
    try:
        for case, holidays in (("real year", []), ("real year, with holidays", _HOLIDAYS)):
            compared = await _compare(connection, tables, holidays)
            low_or_high = [each for each in compared if each.state in ("low", "high")]
            states = {(each.table, each.day): each.state for each in compared}
            again = [
                each for each in low_or_high if states.get((each.table, each.day - timedelta(days=1))) == each.state
            ]
            part = 365 / (365 - 63) / len(tables)
            results.append(
                Unchanged(kind, case, len(tables), round(len(low_or_high) * part, 2), round(len(again) * part, 2))
            )
        for case, factor in _CHANGES.items():
            copies, drawn = {}, {}
            for name, series in tables.items():
                chosen_days = [day for day in _YEAR if day >= _FIRST and day not in _HOLIDAYS]
                for place, day in enumerate(chance.sample(chosen_days, days)):
                    copies[f"{name}/{place}"] = {**series, day: round(series[day] * factor)}
                    drawn[f"year.{name}/{place}"] = day
            compared = await _compare(connection, copies, _HOLIDAYS)
            expected = "low" if factor < 1 else "high"
            hits = sum(each.state == expected for each in compared if drawn[each.table] == each.day)
            control = sum(_stands_out(copies[key.removeprefix("year.")], day) for key, day in drawn.items())
            results.append(
                Measured(
                    kind,
                    case,
                    len(tables),
                    len(drawn),
                    round(100 * hits / len(drawn), 1),
                    round(100 * control / len(drawn), 1),
                )
            )
    finally:
        await connection.close()
    return results


@dataclass(frozen=True, slots=True)
class Alarms:
    """The untouched year with holidays, per table and year: unusual days, and alarms that wake somebody.

    An alarm begins with the second day in a row of one reason, and lasts until a day without. `together`: those of
    volume, columns and arrival, as one incident per table.
    """

    kind: str
    case: str
    tables: int
    columns: int
    unusual_column_days: float
    alarms_of_volume: float
    alarms_of_columns: float
    alarms_of_arrival: float
    together: float
    alarms_of_columns_by_control: float


def _columns(bench: Bench, tables: Mapping[str, Series], days: int) -> list[Alarms | Injected]:
    """Columns and arrivals: of the tables, and of the lines of two departments and two stores."""
    results: list[Alarms | Injected] = []
    with psycopg.connect(bench.warehouse, autocommit=True) as connection:
        connection.execute("truncate ops.loads cascade")
        year = Year(connection, _YEAR, _HOLIDAYS)
        kinds = {
            "table basket_items": [Table("table basket_items", "items")],
            "table baskets": [Table("table baskets", "baskets")],
            "department": [
                Table(name, "items", f"department = '{name.partition(' ')[2]}'")
                for name in tables
                if name.startswith("department")
            ][:2],
            "store": [
                Table(name, "items", f"store_id = {name.partition(' ')[2]}")
                for name in tables
                if name.startswith("store")
            ][:2],
        }
        for kind, chosen in kinds.items():
            profiles = {table: year.profiles(table) for table in chosen}
            results.append(_alarms(bench, kind, year, profiles, tables))
            results += year.injected(kind, profiles, _FIRST, days)
    return results


def _alarms(
    bench: Bench, kind: str, year: Year, profiles: Mapping[Table, Days], tables: Mapping[str, Series]
) -> Alarms:
    volumes = asyncio.run(_volumes_of(bench, {table.name: tables[table.name] for table in profiles}))
    part = 365 / (365 - 63) / len(profiles)
    counted: Counter[str] = Counter()
    for table, columns in profiles.items():
        found = year.unusual_days(columns, _FIRST)
        reasons: dict[str, Mapping[date, Collection[object]]] = {
            "columns": found,
            "arrival": {day: {"late"} for day in year.late_days(table, _FIRST)},
            "volume": {
                each.day: {each.state}
                for each in volumes
                if each.table_name == table.name and each.state in ("low", "high")
            },
        }
        counted["days"] += len(found)
        by_control = _second_days(year.days_that_stand_out(columns, _FIRST))
        counted["names"] += len(columns)
        second = {name: _second_days(each) for name, each in reasons.items()}
        together = set().union(*second.values())
        for name, woken in {**second, "together": together, "control": by_control}.items():
            counted[name] += sum(day - timedelta(days=1) not in woken for day in woken)
    return Alarms(
        kind,
        "real year, with holidays: columns",
        len(profiles),
        counted["names"] // len(profiles),
        *(round(counted[name] * part, 2) for name in ("days", "volume", "columns", "arrival", "together", "control")),
    )


def _second_days(found: Mapping[date, Collection[object]]) -> set[date]:
    """Days that are unusual for the same reason as the day before."""
    return {day for day, those in found.items() if {*those} & {*found.get(day - timedelta(days=1), ())}}


async def _volumes_of(bench: Bench, tables: Mapping[str, Series]) -> list[Volume]:
    connection = await asyncpg.connect(bench.warehouse)
    try:
        return await _compare(connection, tables, _HOLIDAYS)
    finally:
        await connection.close()


async def _compare(
    connection: asyncpg.Connection[asyncpg.Record], tables: Mapping[str, Series], holidays: Sequence[date]
) -> list[Volume]:
    await connection.execute("truncate ops.loads cascade")
    lines = [(name, day, rows) for name, series in tables.items() for day, rows in series.items()]
    await connection.execute(_INSERT, *map(list, zip(*lines, strict=True)))
    await connection.execute("analyze ops.loads")
    free = [("year", name, day) for name in tables for day in holidays]
    found = await volumes(connection, _YEAR[-1], 365, free)
    return [each for each in found if each.day >= _FIRST]


def _stands_out(series: Series, day: date) -> bool:
    """The control: four deviations from the mean of the last 56 days."""
    before = [series[day - timedelta(days=n)] for n in range(1, 57)]
    return abs(series[day] - statistics.mean(before)) > 4 * statistics.stdev(before)


if __name__ == "__main__":
    main()
