"""Many sessions write while loads run; when all is quiet, source and raw are the same. And without the horizon, not.

The long form: `python -m tests.kinds.postgres.soak --seconds 600`, or SOAK_SECONDS=60 before pytest.
"""

import os
from datetime import datetime, timedelta
from typing import Any

import pytest

from flows.kinds.postgres import window as windows
from flows.kinds.postgres.window import Horizon
from tests.conftest import TestDatabase
from tests.kinds.loading import setting
from tests.kinds.postgres.invariants import load
from tests.kinds.postgres.soak import SMALL, SOURCE, Soak, soak
from tests.publish.two_ends import TwoEnds


async def test_rows_written_while_loads_run_are_all_in_raw_when_it_is_quiet(
    warehouse: TestDatabase, shop: TestDatabase
) -> None:
    tally = await soak(TwoEnds(warehouse, shop), float(os.environ.get("SOAK_SECONDS", "2")))

    assert tally.late >= 1
    assert tally.healed == 0, "no comparison of keys had to mend what a cursor had lost"
    assert tally.published_by_window & {"stamped", "lagging", "logged", "numbered", "keyless"}
    assert tally.gathered_in_chunks >= {"whole", "replaced", "accounts"}


async def test_without_an_upper_bound_the_same_soak_loses_rows(
    warehouse: TestDatabase, shop: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test of the test: with plain now() for a bound, the cursor steps over whatever commits late."""

    async def plain_now(connection: Any, now: datetime | None = None) -> Horizon:
        return Horizon(now or await connection.fetchval("select clock_timestamp()"), None, False, None)

    monkeypatch.setattr(windows, "look", plain_now)
    monkeypatch.setattr(windows, "_GUARD", timedelta(0))
    here = Soak(TwoEnds(warehouse, shop), "stamped", "keyless", "traced")
    with setting(**SMALL):
        for table in here.tables:
            await load(here.ends, SOURCE, table.name)
        with here.writing():
            await here.load_for(0)
        await here.settle()

    # Where there are keys, a row that is missing makes the next load read the table whole, which mends the others, too.
    mended = {name for (name,) in here.ends.raw("select table_name from ops.loads where strategy = 'reload'")}
    assert "keyless" in here.lost()
    assert here.lost() | mended == {"stamped", "keyless"}, "and traced does not ask since when transactions are open"
