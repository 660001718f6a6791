"""Days of loads, written into the ledger as loads write them."""

from collections.abc import Mapping
from datetime import date

from tests.conftest import TestDatabase
from tests.publish.two_ends import run_sql

_LOAD = """
insert into ops.loads (source_system, table_name, strategy, status, rows_read, rows_inserted, rows_updated,
    rows_unchanged, rows_deduplicated, rows_quarantined, rows_deleted, started_at, finished_at)
select 'shop', %(table)s, %(strategy)s, 'published', rows, rows, 0, 0, 0, 0, 0, at, at
from unnest(%(days)s::date[], %(rows)s::bigint[]) as d (day, total)
cross join generate_series(0, %(loads)s - 1) as n
cross join lateral (select day::timestamp at time zone 'UTC' + make_interval(hours => n * 23 / %(loads)s) as at,
    total / %(loads)s + case when n = 0 then total %% %(loads)s else 0 end as rows) as one
"""


def loaded(
    warehouse: TestDatabase, table: str, days: Mapping[date, int], *, loads: int = 3, strategy: str = "merge"
) -> None:
    """The table received these rows on these days, in several loads a day."""
    run_sql(
        warehouse.url("loader"),
        _LOAD,
        {"table": table, "strategy": strategy, "days": [*days], "rows": [*days.values()], "loads": loads},
    )
