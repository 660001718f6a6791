"""A real json-server into raw: Link headers with four relations, and a body that is the list itself."""

import pytest

from tests.conftest import TestDatabase
from tests.kinds.api.servers.declared import JSON_SERVER
from tests.kinds.api.servers.json_server import JsonServer
from tests.kinds.api.servers.reading import load, raw_records

pytestmark = pytest.mark.xdist_group("json_server")


async def test_link_headers_lead_through_the_whole_list_and_changes_follow(
    warehouse: TestDatabase, json_server: JsonServer
) -> None:
    first = await load(warehouse, JSON_SERVER, json_server.url, "items")

    assert first.counts.rows_read == 35
    assert set(raw_records(warehouse, "raw_files.items")) == set(range(1, 36))

    changed = {"id": 3, "updated_at": "2024-02-01T00:00:00Z", "price": 1.5}
    json_server.add([{"id": 100, "updated_at": "2024-02-01T00:00:00Z", "parts": []}])
    json_server.change(changed)
    second = await load(warehouse, JSON_SERVER, json_server.url, "items")

    assert (second.counts.rows_inserted, second.counts.rows_updated) == (1, 1)
    assert raw_records(warehouse, "raw_files.items")[3] == changed
