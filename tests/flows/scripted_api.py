"""A commerce API of a few records in a thread: it answers, or fails as it is told."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

STAMP = "2017-03-03T00:00:00Z"
RECORDS: dict[str, list[dict[str, Any]]] = {
    "campaigns": [
        {
            "id": 1,
            "name": None,
            "type": "Type B",
            "period": {"starts_on": "2017-03-03", "ends_on": "2017-04-09"},
            "updated_at": STAMP,
        }
    ],
    "campaign_targets": [
        {"id": f"1-{household}", "campaign": {"id": 1}, "household": {"id": household}, "updated_at": STAMP}
        for household in (5, 6, 7)
    ],
    "coupons": [
        {
            "id": "1-10000085207",
            "upc": "10000085207",
            "campaign": {"id": 1},
            "products": [{"id": 25001}, {"id": 25002}],
            "terms": None,
            "updated_at": STAMP,
        }
    ],
    "redemptions": [
        {
            "id": 17,
            "coupon": {"id": "1-10000085207", "upc": "10000085207"},
            "campaign": {"id": 1},
            "household": {"id": 5},
            "redeemed_on": "2017-03-10",
            "channel": None,
            "updated_at": STAMP,
        }
    ],
    "exchange_rates": [
        {
            "id": "2017-03-03-EUR",
            "date": "2017-03-03",
            "base": "USD",
            "quote": "EUR",
            "rate": "0.944700",
            "updated_at": STAMP,
        }
    ],
}


class ScriptedApi:
    """`refuse` maps an endpoint to the status and headers it is answered with; `asked` lists the endpoints asked."""

    def __init__(self, key: str = "scripted-key") -> None:
        self.key = key
        self.refuse: dict[str, tuple[int, dict[str, str]]] = {}
        self.records: dict[str, list[Any]] = {name: list(records) for name, records in RECORDS.items()}
        self.asked: list[str] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                endpoint = urlsplit(self.path).path.rpartition("/")[2]
                api.asked.append(endpoint)
                code, headers = api.refuse.get(endpoint, (200, {}))
                if self.headers["X-API-Key"] != api.key:
                    code, headers = 401, {}
                records = api.records.get(endpoint, [])
                body = json.dumps({"data": records, "meta": {"total": len(records)}}).encode()
                self.send_response(code)
                for name, value in {**headers, "Content-Type": "application/json"}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "ScriptedApi":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
