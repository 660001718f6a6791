"""An API, for the promises that every kind keeps: a server on this machine that hands out a list page by page."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

from flows.declare import Replace, Rule
from flows.kinds.api import Api, Bearer, Cursor, Endpoint
from flows.kinds.api.pages.walk import Walk
from tests.conftest import TestDatabase
from tests.kinds.conformance.end import SECRET, End, Fixture, Items

SOURCE = Api(
    "conform",
    connection="conform",
    auth=Bearer(),
    pagination=Cursor("after", at="next"),
    endpoints=[
        Endpoint(
            "items",
            path="/items",
            key_type="bigint",
            total="total",
            load=Replace(),
            rules=(Rule("amount_not_negative", "(payload ->> 'amount')::int >= 0"),),
            max_quarantined=0.5,
        )
    ],
)
_PAGE = 6


@dataclass
class ApiEnd(End):
    """What the server lists, in the order of ids."""

    records: list[dict[str, Any]] = field(default_factory=list)
    refuses: bool = False
    stops: str = ""
    commit: int = _PAGE
    early_ends: tuple[str, ...] = ("drops the last page", "no word of the next page", "an empty page")

    def write(self, *items: tuple[int, str, int]) -> None:
        for number, name, amount in items:
            self.delete(number)
            self.records.append({"id": number, "name": name, "amount": amount})
        self.records.sort(key=lambda record: int(record["id"]))

    def delete(self, number: int) -> None:
        self.records[:] = [record for record in self.records if record["id"] != number]

    def double(self, number: int, name: str | None = None) -> None:
        found = [record for record in self.records if record["id"] == number]
        self.records += [{**record, "name": name or record["name"]} for record in found]

    def held(self) -> Items:
        return {record["id"]: (record["name"], record["amount"]) for record in self.records}

    @contextmanager
    def broken(self) -> Iterator[None]:
        self.refuses = True
        yield
        self.refuses = False

    @contextmanager
    def stopping(self, way: str) -> Iterator[None]:
        self.stops = way
        yield
        self.stops = ""

    def page(self, after: int) -> dict[str, Any]:
        found = self.records[after : after + _PAGE]
        following = after + len(found)
        page: dict[str, Any] = {
            "data": found,
            "total": len(self.records),
            "next": str(following) if following < len(self.records) else None,
        }
        if self.stops == "an empty page" and following >= len(self.records):
            page["data"] = []
        if following + _PAGE >= len(self.records) > following:
            # More than half of the records came: the share that a replace must keep does not help.
            if self.stops == "drops the last page":
                page["next"] = None
            if self.stops == "no word of the next page":
                del page["next"]
        return page


@contextmanager
def start(shop: TestDatabase, folder: Path) -> Iterator[End]:
    end = ApiEnd(
        SOURCE,
        {},
        item="id, payload ->> 'name', (payload ->> 'amount')::int",
        swapped="update {0} as r set payload = jsonb_set(r.payload, '{{name}}', o.payload -> 'name') from {0} as o "
        "where (r.id, o.id) in ((3, 4), (4, 3))",
        dataset=("", ""),
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["Authorization"] == f"Bearer {SECRET}"
            status = 401 if end.refuses or not known else 200
            query = parse_qs(urlsplit(self.path).query)
            body = json.dumps(end.page(int(query.get("after", ["0"])[0])) if status == 200 else {}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    end.dataset = (f"http://127.0.0.1:{server.server_port}", "items")
    end.variables = {
        "MEDALLION_SOURCE_CONFORM_URL": f"http://127.0.0.1:{server.server_port}",
        "MEDALLION_SOURCE_CONFORM_KEY": SECRET,
    }
    try:
        yield end
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def believing_every_end() -> Iterator[None]:
    """Whatever a page says besides its link, a missing link is the end of the list; and nothing is counted."""

    async def uncounted(*given: Any, **limits: Any) -> None:
        return None

    believe = patch.object(Walk, "_end", lambda walk, answer: setattr(walk, "is_proven", True))
    with believe, patch("flows.kinds.api.counted.count_records", uncounted):
        yield


FIXTURE = Fixture(__name__, start, gullible=believing_every_end)
