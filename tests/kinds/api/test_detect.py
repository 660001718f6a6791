"""What is guessed from an API's answer, for a person to look at."""

import json
from typing import Any

import httpx
import pytest

from flows.kinds.api.detect import detect

ROWS = [{"id": 1, "updated_at": "2026-01-01T00:00:00Z"}, {"id": 2, "updated_at": "2026-01-02T00:00:00Z"}]
NEXT = "https://api.example.com/v1/orders?page=2"


@pytest.mark.parametrize(
    ("document", "headers", "records", "total", "pagination"),
    [
        ({"data": ROWS, "meta": {"total": 9}}, {"Link": f'<{NEXT}>; rel="next"'}, "data", "meta.total", "LinkHeader()"),
        (ROWS, {"Next-Page": NEXT}, "", None, 'NextHeader("Next-Page")'),
        ({"count": 9, "next": NEXT, "previous": None, "results": ROWS}, {}, "results", "count", 'NextUrl("next")'),
        ({"items": ROWS, "links": {"next": "/v1/orders?p=2"}}, {}, "items", None, 'NextUrl("links.next")'),
        ({"items": ROWS, "nextPageToken": "abc"}, {}, "items", None, 'Cursor("pageToken", at="nextPageToken")'),
        ({"d": {"i": ROWS}, "p": {"next_cursor": "x"}}, {}, "d.i", None, 'Cursor("cursor", at="p.next_cursor")'),
        ({"data": ROWS, "page": 1, "total_pages": 5}, {}, "data", None, 'PageNumber("page", pages="total_pages")'),
        ({"rows": ROWS, "offset": 0, "total": 80}, {}, "rows", "total", 'Offset("offset")'),
        ({"data": ROWS}, {}, "data", None, "SinglePage()"),
        ({"value": ROWS, "@odata.nextLink": NEXT}, {}, "value", None, """NextUrl('"@odata.nextLink"')"""),
        ({"a.b": {"list": ROWS}, "m": {"x.total": 1, "total": 9}}, {}, '"a.b".list', "m.total", "SinglePage()"),
        (
            {"resourceType": "Bundle", "total": 3, "link": [{"relation": "next", "url": NEXT}],
             "entry": [{"resource": row} for row in ROWS]},
            {}, "entry[].resource", "total", 'NextUrl("link[relation=next].url")',
        ),
    ],
)  # fmt: skip
def test_a_list_is_found_with_its_total_and_its_way_to_the_next_page(
    document: Any, headers: dict[str, str], records: str, total: str | None, pagination: str
) -> None:
    found = detect(json.dumps(document).encode(), httpx.Headers(headers))
    assert (found.records, found.total, found.pagination) == (records, total, pagination)
    assert (found.key, found.key_type, found.cursor_field) == ("id", "bigint", "updated_at")


@pytest.mark.parametrize(
    ("records", "key"),
    [
        ([{"uuid": "5e0f1c9a-2b3c-4d5e-8f90-a1b2c3d4e5f6"}], ("uuid", "uuid")),
        ([{"id": 1}, {"id": 1}], ("id", "text")),
        ([{"id": 1, "n": "x"}, {"id": "a", "n": "y"}], ("id", "text")),
        ([{"name": "a", "order_id": 7}, {"name": "a", "order_id": 8}], ("order_id", "bigint")),
        ([{"meta": {"lastUpdated": "x"}, "code": "A"}], ("code", "text")),
    ],
)
def test_a_key_is_what_every_record_has_differently(records: list[dict[str, Any]], key: tuple[str, str]) -> None:
    found = detect(json.dumps({"data": records}).encode(), httpx.Headers())
    assert (found.key, found.key_type) == key
