"""An erasure finds rows of files as it finds others, in raw, in quarantine and in the state of files."""

from dataclasses import replace

import asyncpg

from flows.declare import Subject
from flows.privacy.places import find_places
from flows.privacy.references import Traces
from flows.privacy.rows import delete_rows
from flows.privacy.search import search
from tests.kinds.everywhere import tables_with
from tests.kinds.files.loading import LINES, Drop


async def test_an_erased_subject_is_in_no_row_of_files_and_does_not_come_back(drop: Drop) -> None:
    table = replace(LINES, columns={"customer_id": "bigint", "v": "integer"}, max_quarantined=0.9)
    drop.put("zqpersonada.csv", "customer_id;v;mail\n1;1;zqpersonada@x.org\n1;x;zqpersonada@x.org\n2;2;b@x.org\n")
    await drop.load(table)
    subject = Subject("customer", key="customer_id", home="drop.lines")
    traces = Traces({"customer_id": ["1"]}, ["zqpersonada@x.org", "zqpersonada"])

    connection = await asyncpg.connect(drop.warehouse.url("admin"))
    try:
        places = [one for one in await find_places(connection) if one.schema in ("raw_drop", "quarantine", "ops")]
        await delete_rows(connection, places, subject, traces)
        remains = await search(connection, places, subject, traces)
    finally:
        await connection.close()

    assert remains == []
    assert drop.raw("customer_id, v") == [(2, 2)]
    assert drop.quarantine() == []
    left = [name for name in tables_with(drop.warehouse, "zqperson") if "pg_" not in name]
    assert [name for name in left if "lines" not in name] == [], "only the path that a row of somebody else is from"
    again = await drop.load(table)
    assert (again.counts.rows_read, drop.raw("customer_id, v")) == (0, [(2, 2)])
