"""Days of profiles, written as loads write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from tests.conftest import TestDatabase
from tests.publish.two_ends import run_sql

_PROFILE = """
insert into ops.profiles (source_system, table_name, column_name, batch_id, strategy, kind, rows, sampled, null_share,
    distinct_values, quantiles, shares, profiled_at)
select 'shop', %(table)s, %(column)s, to_char(day, 'YYYYMMDD')::bigint * 100 + length(%(strategy)s), %(strategy)s,
    'number', %(rows)s, %(rows)s, share, %(distinct)s, %(quantiles)s, %(shares)s,
    day::timestamp at time zone 'UTC' + interval '5 hours'
from unnest(%(days)s::date[], %(nulls)s::real[]) as d (day, share)
"""


def profiled(
    warehouse: TestDatabase,
    column: str,
    nulls: Mapping[date, float],
    *,
    table: str = "baskets",
    rows: int = 1000,
    distinct: int | None = None,
    quantiles: Sequence[float] | None = None,
    shares: Sequence[float] | None = None,
    strategy: str = "merge",
) -> None:
    """A column's null shares on these days, in a load a day; all else is the same on each."""
    run_sql(
        warehouse.url("loader"),
        _PROFILE,
        {
            "table": table,
            "column": column,
            "days": [*nulls],
            "nulls": [*nulls.values()],
            "rows": rows,
            "distinct": distinct,
            "quantiles": None if quantiles is None else [*quantiles],
            "shares": None if shares is None else [*shares],
            "strategy": strategy,
        },
    )
