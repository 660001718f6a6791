"""`python -m benchmarks.dashboard`: how long pages of the dashboard take, over a year of hourly loads of 30 tables.

Each page is requested over HTTP from a server on loopback. `uncached`: what the dashboard remembers for some seconds is
forgotten before each request, so that each one reads everything.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from benchmarks.cluster import Bench, private_cluster
from flows.dashboard.app import PAGES
from flows.dashboard.desk import Desk
from flows.dashboard.people import ROLES, People, Person
from flows.dashboard.serving import HOST, listen, server

_HERE = Path(__file__).parent
_QUERIES = {"/table": "?name=shop.table_3", "/load": "?id=1000", "/alert": "?id=1", "/customers": "?household=7"}
_GOLD = """
create schema gold;
create table gold.customer_360 as select n as household_id, 'gold'::text as tier, 'loyal'::text as segment,
    n * 1.5 as sales_value from generate_series(1, {customers}) as n;
create unique index on gold.customer_360 (household_id);
create table gold.agg_daily_sales as select date '2024-01-01' + n as sold_on, 100.0 as sales_value, 10 as baskets,
    5 as households, 100.0 as sales_7_day_average from generate_series(0, 730) as n;
create unique index on gold.agg_daily_sales (sold_on);
analyze gold.customer_360, gold.agg_daily_sales;
insert into ops.alerts (name, subject, cause, severity, what, fix)
select 'late', 'shop.table_' || n, 'x', 'warning', 'the last load is two hours old', 'wait'
from generate_series(1, 50) as n;
insert into quarantine.rows (batch_id, source_system, table_name, rule, row_data, row_hash)
select n, 'shop', 'table_' || n % 30, 'rule_' || n % 7, '{{}}', n::text from generate_series(1, 10000) as n;
analyze quarantine.rows;
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds of one page, over so many requests."""

    page: str
    case: str
    requests: int
    median: float
    p95: float


def main() -> None:
    """Measure each page, print, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description=__doc__)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--customers", type=int, default=20_000_000)
    options = parser.parse_args()
    with private_cluster() as bench:
        for name in ("", "_TRANSFORMER", "_DASHBOARD"):
            os.environ[f"MEDALLION_WAREHOUSE{name}_URL"] = bench.warehouse
        _fill(bench, options.customers)
        with _serving() as (desk, client):
            results = [one for page in PAGES if page not in ("/login", "/campaigns", "/forecast")
                       for one in _measure(desk, client, page, options.requests)]  # fmt: skip
    (_HERE / "results").mkdir(exist_ok=True)
    (_HERE / "results/dashboard.json").write_text(json.dumps([asdict(one) for one in results], indent=2) + "\n")
    for one in results:
        print(f"{one.page:12} {one.case:10} median {one.median:6.1f} ms, p95 {one.p95:6.1f} ms")


def _fill(bench: Bench, customers: int) -> None:
    history = (_HERE / "dashboard.sql").read_text(encoding="utf-8")
    bench.execute("warehouse", history.replace("{tables}", "30").replace("{days}", "365"))
    bench.execute("warehouse", _GOLD.format(customers=customers))


@contextmanager
def _serving() -> Iterator[tuple[Desk, httpx.Client]]:
    desk = Desk(People({}))
    with listen(0) as opened:
        port = opened.getsockname()[1]
        running = server(desk, port)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [opened]}, daemon=True)
        thread.start()
        cookies = {f"medallion_{port}": desk.sessions.begin(Person("bench", ROLES))}
        with httpx.Client(base_url=f"http://{HOST}:{port}", cookies=cookies, trust_env=False, timeout=60) as client:
            yield desk, client
        running.should_exit = True
        thread.join(10)


def _measure(desk: Desk, client: httpx.Client, page: str, requests: int) -> Iterator[Measured]:
    for case in ("uncached", "cached"):
        taken = []
        for _ in range(requests + 1):
            if case == "uncached":
                for fact in (desk.facts.readings, desk.facts.kept, desk.facts.models, desk.gold):
                    fact.forget()
            began = time.perf_counter()
            client.get(page + _QUERIES.get(page, "")).raise_for_status()
            taken.append(1000 * (time.perf_counter() - began))
        # The first one opens the sessions.
        quantiles = statistics.quantiles(taken[1:], n=20)
        yield Measured(page, case, requests, round(statistics.median(taken[1:]), 1), round(quantiles[18], 1))


if __name__ == "__main__":
    main()
