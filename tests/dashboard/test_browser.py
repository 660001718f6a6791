"""Each page in a real browser: no barrier that axe calls serious, charts drawn, nothing refused by the policy.

Needs Debian's chromium, and `npm ci --prefix tests/dashboard/node --ignore-scripts`.
"""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from flows.access.addresses import connect
from flows.dashboard.app import PAGES
from flows.dashboard.people import ROLES, Person
from tests.conftest import TestCluster, TestDatabase, fresh_warehouse
from tests.dashboard.served import SEED, serving
from tests.dashboard.test_business import GOLD
from tests.dashboard.test_pages import fire
from tests.kinds.loading import at
from tests.operations.ledger import HOUR, Ledger
from tests.publish.two_ends import run_sql

pytestmark = [pytest.mark.xdist_group("dashboard"), pytest.mark.long]
NODE = Path(__file__).with_name("node")


async def build_models(warehouse: TestDatabase) -> None:
    """A lineage to draw."""
    async with connect(at(warehouse, "loader"), side="warehouse") as connection:
        now = await connection.fetchval("select clock_timestamp()")
        await Ledger(connection).build(now - HOUR, models={"sales": {}, "stores": {}})


def test_no_page_has_a_serious_barrier_in_light_or_dark_wide_or_narrow(cluster: TestCluster) -> None:
    chromium, node = shutil.which("chromium"), shutil.which("node")
    if chromium is None or node is None or not (NODE / "node_modules/axe-core").is_dir():
        pytest.skip("there is no chromium or no axe: see the head of this file")
    with fresh_warehouse(cluster) as warehouse:
        run_sql(warehouse.url("loader"), SEED.replace("{tables}", "6").replace("{days}", "9"))
        run_sql(warehouse.url("transformer"), GOLD)
        asyncio.run(build_models(warehouse))
        with serving(warehouse) as running:
            fire(running, "shop.table_1")
            cookie = running.desk.sessions.begin(Person("all", ROLES))
            pages = [
                {"/alert": "/alert?id=1", "/table": "/table?name=shop.table_1", "/load": "/load?id=4",
                 "/customers": "/customers?household=7"}.get(page, page)
                for page in PAGES if page != "/login"
            ]  # fmt: skip
            name = f"medallion_{running.url.rpartition(':')[2]}"
            command = [node, str(NODE / "look.mjs"), chromium, running.url, name, cookie, *pages]
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
