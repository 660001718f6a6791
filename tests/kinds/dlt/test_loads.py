"""Resources of dlt sources into raw: real sources of dlt's, records and Arrow tables, state, deletes, and failures."""

import asyncio
import json
import logging
import os
import sqlite3
from pathlib import Path

import pytest

pytest.importorskip("dlt", reason="the extra `dlt` is not installed")

from dlt.common.runtime import anon_tracker, run_context

from flows.declare import Merge, Replace, Rule
from flows.kinds.dlt import DltSource, Resource
from flows.values.connection import ApiConnection
from flows.values.errors import ConfigurationError, DeclarationError, SourceError
from flows.verbs.load import load_table
from tests.conftest import TestDatabase
from tests.kinds.api.http_servers import raw as http_raw
from tests.kinds.api.http_servers import response, serve, status
from tests.kinds.dlt import sources
from tests.kinds.dlt.loading import RecordsFile, file, load, raw, state
from tests.kinds.dlt.sources import SECRET
from tests.kinds.loading import at as address
from tests.kinds.loading import change, cursor, landing_tables, loads, open_quarantine, raw_rows, rows
from tests.kinds.postgres.proxy import proxy

# One worker imports dlt, which takes it over a second.
pytestmark = pytest.mark.xdist_group("dlt")

__all__ = ["file"]  # a fixture

THINGS = Resource("things", key_type="bigint")
ENTRIES = Resource("entries", cursor="changed_at")


# -- dlt's own sources


async def test_a_rest_api_source_lands_its_records_and_then_asks_only_for_what_is_new(
    warehouse: TestDatabase,
) -> None:
    orders = Resource("orders", key_type="bigint", cursor="changed_at")
    first = json.dumps({
        "data": [{"id": 1, "changed_at": "2026-01-01T00:00:00Z", "lines": [{"n": 1}, {"n": 2}]}],
        "next": "/orders?page=2",
    })  # fmt: skip
    second = json.dumps({"data": [{"id": 2, "changed_at": "2026-01-02T00:00:00Z"}], "next": None})
    third = json.dumps({"data": [{"id": 2, "changed_at": "2026-01-03T00:00:00Z"}], "next": None})
    async with serve(*(http_raw(response(200, body.encode())) for body in (first, second, third))) as server:
        connection = ApiConnection("crm", server.url, SECRET)
        await load(warehouse, "shop_api", orders, connection)
        assert cursor(warehouse, "orders") == "2026-01-02T00:00:00Z"

        again = await load(warehouse, "shop_api", orders, connection)

    assert [target.partition("?")[2] for target in server.targets] == [
        "since=2026",
        "page=2",
        "since=2026-01-02T00%3A00%3A00Z",
    ]
    assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"
    assert (again.strategy, again.counts.rows_updated, again.counts.reconciliation) == ("merge", 1, "not_compared")
    assert raw(warehouse, "orders", "id, changed_at::text, payload -> 'lines' as lines") == [
        {"id": 1, "changed_at": "2026-01-01 00:00:00+00", "lines": [{"n": 1}, {"n": 2}]},
        {"id": 2, "changed_at": "2026-01-03 00:00:00+00", "lines": None},
    ]


async def test_a_refused_key_of_a_rest_api_is_told_without_the_key(warehouse: TestDatabase) -> None:
    async with serve(status(401)) as server:
        with pytest.raises(ConfigurationError, match="HTTP 401") as caught:
            await load(warehouse, "shop_api", Resource("orders"), ApiConnection("crm", server.url, SECRET))

    assert SECRET not in str(caught.value)
    assert not caught.value.retryable


async def test_an_sql_database_lands_in_columns_of_its_own_types(warehouse: TestDatabase, tmp_path: Path) -> None:
    slips = Resource("slips", key="slip_id", cursor="changed_at", columns=True, load=Merge())
    connection = ApiConnection("till", f"sqlite:///{tmp_path}/till.db")
    with sqlite3.connect(tmp_path / "till.db") as till:
        till.execute(
            "create table slips (slip_id integer primary key, total decimal(10,2), note text, changed_at timestamp)"
        )
        values = [(n, n + 0.25, f"note {n}", f"2026-01-01 00:00:{n:02}.000000") for n in range(1, 8)]
        till.executemany("insert into slips values (?, ?, ?, ?)", values)
    first = await load(warehouse, "till", slips, connection)
    assert first.counts.rows_inserted == 7
    with sqlite3.connect(tmp_path / "till.db") as till:
        till.execute("update slips set total = 99.5, changed_at = '2026-01-02 00:00:00.000000' where slip_id = 3")
        till.execute("alter table slips add column cashier integer")
        till.execute("insert into slips values (8, 8.25, null, '2026-01-02 00:00:01.000000', 12)")

    again = await load(warehouse, "till", slips, connection)

    assert (again.counts.rows_inserted, again.counts.rows_updated) == (1, 1)
    assert again.schema_changes == ("cashier added",)
    assert raw(warehouse, "slips", "slip_id, total::text, note, cashier", "1")[2::5] == [
        {"slip_id": 3, "total": "99.50", "note": "note 3", "cashier": None},
        {"slip_id": 8, "total": "8.25", "note": None, "cashier": 12},
    ]
    assert landing_tables(warehouse) == []


# -- state


async def test_a_cursor_that_contradicts_the_declaration_is_refused_before_a_record_is_read(
    warehouse: TestDatabase, file: RecordsFile
) -> None:
    """Whether a function that takes an incremental gets one shows only when it is called."""
    file.hold({"id": 1, "changed_at": sources.at(1)})
    for resource in (Resource("entries", cursor="made_at"), Resource("entries", key="id", load=Replace())):
        with pytest.raises(DeclarationError, match="changed_at"):
            await load(warehouse, "entries", resource)

    assert landing_tables(warehouse) == []


async def test_a_resource_that_raises_midway_publishes_neither_records_nor_state(
    warehouse: TestDatabase, file: RecordsFile, caplog: pytest.LogCaptureFixture
) -> None:
    """Its state has moved by then: what was yielded before the error would never be yielded again."""
    file.hold({"id": 1, "changed_at": sources.at(1)})
    await load(warehouse, "entries", ENTRIES)
    before = (state(warehouse, "entries"), raw_rows(warehouse, "entries", "raw_crm"), cursor(warehouse, "entries"))
    file.hold({"id": 2, "changed_at": sources.at(2)}, {"id": 3, "changed_at": sources.at(3), "breaks": True})

    with pytest.raises(SourceError, match=r"raised LookupError in sources\.py, line \d+") as caught:
        await load(warehouse, "entries", ENTRIES)

    assert (
        state(warehouse, "entries"),
        raw_rows(warehouse, "entries", "raw_crm"),
        cursor(warehouse, "entries"),
    ) == before
    assert caught.value.__context__ is None
    told = f"{caught.value}{caplog.text}{rows(warehouse, 'select * from ops.errors')}{loads(warehouse)}"
    assert SECRET not in told
    file.hold({"id": 2, "changed_at": sources.at(2)}, {"id": 3, "changed_at": sources.at(3)})
    assert (await load(warehouse, "entries", ENTRIES)).counts.rows_inserted == 2


async def test_a_lost_answer_to_commit_neither_doubles_records_nor_loses_the_state(
    warehouse: TestDatabase, file: RecordsFile
) -> None:
    file.hold({"id": 1, "changed_at": sources.at(1)})
    source = DltSource("crm", build="tests.kinds.dlt.sources:entries", resources=[ENTRIES])
    async with proxy(address(warehouse, "loader"), "after") as loader:
        await load_table(loader, None, source, ENTRIES)
    assert state(warehouse, "entries")["crm"]["resources"]["entries"]["reads"] == 1
    assert cursor(warehouse, "entries") == sources.at(1)
    file.hold({"id": 1, "changed_at": sources.at(1)}, {"id": 2, "changed_at": sources.at(2)})

    again = await load(warehouse, "entries", ENTRIES)

    assert (again.counts.rows_read, again.counts.rows_inserted) == (1, 1)
    assert raw(warehouse, "entries", "payload ->> 'id' as id") == [{"id": "1"}, {"id": "2"}]


async def test_resources_are_read_side_by_side_each_with_a_state_of_its_own(
    warehouse: TestDatabase, file: RecordsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dlt keeps what it injects by thread; two loads of one process must not meet in it."""
    monkeypatch.setenv("API_KEY", SECRET)
    file.hold({"id": 1, "changed_at": sources.at(1)})

    await asyncio.gather(
        load(warehouse, "entries", ENTRIES),
        load(warehouse, "things", THINGS),
        load(warehouse, "things", Resource("slow_parts")),
    )

    assert state(warehouse, "entries")["crm"]["resources"]["entries"]["reads"] == 1
    assert state(warehouse, "things") == state(warehouse, "slow_parts") == {}


async def test_a_raw_table_renamed_away_takes_the_state_with_it(warehouse: TestDatabase, file: RecordsFile) -> None:
    file.hold({"id": 1, "changed_at": sources.at(1)})
    await load(warehouse, "entries", ENTRIES)
    change(warehouse, "alter table raw_crm.entries rename to entries_before", role="loader")

    again = await load(warehouse, "entries", ENTRIES)

    assert (again.strategy, again.counts.rows_inserted) == ("initial", 1)


# -- records


async def test_records_that_say_they_are_deleted_keep_their_last_values_and_may_come_back(
    warehouse: TestDatabase, file: RecordsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", SECRET)
    file.hold({"id": 0, "gone": True}, {"id": 1, "name": "lamp"}, {"id": 2, "name": "desk"})
    assert (await load(warehouse, "things", THINGS)).counts.raw_rows == 2
    file.hold({"id": 1, "gone": True}, {"id": 2, "name": "desk", "gone": False}, {"id": 3, "gone": True})

    deleting = await load(warehouse, "things", THINGS)

    assert deleting.counts.raw_rows == 1
    assert raw(warehouse, "things", "id, payload ->> 'name' as name, _deleted_at is not null as gone")[1:] == [
        {"id": 1, "name": "lamp", "gone": True},
        {"id": 2, "name": "desk", "gone": False},
        {"id": 3, "name": None, "gone": True},
    ]
    counts = deleting.counts
    assert (counts.rows_inserted, counts.rows_updated, counts.rows_deleted) == (1, 2, 2)
    before = raw_rows(warehouse, "things", "raw_crm")
    assert (await load(warehouse, "things", THINGS)).counts.changed == 0
    assert raw_rows(warehouse, "things", "raw_crm") == before
    file.hold({"id": 1, "gone": True}, {"id": 1, "name": "lamp again"})
    await load(warehouse, "things", THINGS)
    assert raw(warehouse, "things", "payload ->> 'name' as name, _deleted_at", "id")[1] == {
        "name": "lamp again",
        "_deleted_at": None,
    }


@pytest.mark.parametrize(("resource", "expected"), [("parts", 6), ("slow_parts", 3)])
async def test_transformers_parallelized_and_async_ones_are_loads_of_their_own(
    warehouse: TestDatabase, file: RecordsFile, monkeypatch: pytest.MonkeyPatch, resource: str, expected: int
) -> None:
    monkeypatch.setenv("API_KEY", SECRET)
    file.hold(*({"id": n} for n in range(3)))

    result = await load(warehouse, "things", Resource(resource))

    assert result.counts.rows_inserted == expected
    assert (await load(warehouse, "things", Resource(resource))).strategy == "replace"


async def test_records_that_break_a_rule_or_cannot_be_kept_go_to_quarantine(
    warehouse: TestDatabase, file: RecordsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", SECRET)
    named = Rule("name_present", "payload ->> 'name' <> ''")
    things = Resource("things", key_type="bigint", rules=(named,), max_quarantined=0.9)
    file.hold({"id": 1, "name": "lamp"}, {"id": 2, "name": ""}, {"id": 3, "name": "n\0ul"}, {"id": "x", "name": "y"})

    result = await load(warehouse, "things", things)

    assert (result.counts.rows_inserted, result.counts.rows_quarantined) == (1, 3)
    assert sorted((row["rule"], (row["row_key"] or {}).get("id")) for row in open_quarantine(warehouse)) == [
        ("key_present", None),
        ("name_present", 2),
        ("payload_holds_nul", 3),
    ]
    file.hold({"id": 2, "name": "desk"}, {"id": 3, "name": "chair"})
    await load(warehouse, "things", things)
    assert [row["rule"] for row in open_quarantine(warehouse)] == ["key_present"]


async def test_counts_are_compared_where_the_source_is_asked_for_one(
    warehouse: TestDatabase, file: RecordsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", SECRET)
    counted = Resource("things", key_type="bigint", count="tests.kinds.dlt.sources:how_many")
    file.hold({"id": 1}, {"id": 2})
    assert (await load(warehouse, "things", counted)).counts.reconciliation == "match"
    file.hold({"id": 2}, {"id": 2})
    assert (await load(warehouse, "things", counted)).counts.reconciliation == "match"
    file.hold({"id": 1}, {"id": 2}, {"id": 3, "gone": True})
    assert (await load(warehouse, "things", counted)).counts.reconciliation == "missing"
    assert (await load(warehouse, "things", counted)).strategy == "reload"


# -- secrets and files


async def test_a_missing_secret_names_the_variable_and_dlt_leaves_no_file_behind(
    warehouse: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # Where dlt would keep its files: the account's own place may hold somebody else's.
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    monkeypatch.setenv("SOURCES__VAULT__OTHER", SECRET)
    keys = Resource("keys", key_type="bigint")
    with pytest.raises(ConfigurationError, match="dlt found no value for api_key") as caught:
        await load(warehouse, "needs_a_secret", keys)
    assert "SOURCES__VAULT__VAULT__API_KEY" in caught.value.fix
    monkeypatch.setenv("SOURCES__VAULT__API_KEY", SECRET)

    await load(warehouse, "needs_a_secret", keys)

    assert raw(warehouse, "keys", "id") == [{"id": 1}]
    assert os.listdir(tmp_path) == []  # noqa: PTH208
    written = [rows(warehouse, f"select * from ops.{name}") for name in ("loads", "errors", "dlt_states", "cursors")]
    assert SECRET not in str(written)


async def test_a_secret_of_a_wrong_type_is_not_quoted_as_dlt_would(
    warehouse: TestDatabase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SOURCES__VAULT__VAULT__API_KEY", "zqkey")
    monkeypatch.setenv("SOURCES__VAULT__VAULT__PORT", SECRET)

    with pytest.raises(ConfigurationError, match="a value of the wrong type for port") as caught:
        await load(warehouse, "needs_a_secret", Resource("keys"))

    assert SECRET not in f"{caught.value}{caplog.text}{rows(warehouse, 'select * from ops.errors')}"


def test_dlt_neither_calls_home_nor_logs() -> None:
    """Its messages quote records and addresses; what matters of them is told in our own words."""
    assert os.environ["RUNTIME__DLTHUB_TELEMETRY"] == "false"
    assert run_context.active().runtime_config.dlthub_telemetry is False
    assert anon_tracker._ANON_TRACKER_ENDPOINT is None
    assert logging.getLogger("dlt").level >= logging.CRITICAL
