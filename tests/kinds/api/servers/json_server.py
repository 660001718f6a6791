"""json-server, a REST API from a file: https://github.com/typicode/json-server/tree/v0.17.4.

GET /items?_page=2&_limit=10&updated_at_gte=2024-01-01T00:00:00Z
→ Link: <http://…?_page=1&_limit=10>; rel="first", <…>; rel="prev", <…>; rel="next", <…>; rel="last"
  X-Total-Count: 35
  [{"id": 11, …}, …]                       the body itself is the list
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from infra.local.ports import any_free
from tests.kinds.api.servers.program import program

NODE = shutil.which("node")
PROGRAM = Path(__file__).with_name("node") / "node_modules/json-server/lib/cli/bin.js"
MISSING = (
    ""
    if NODE and PROGRAM.exists()
    else "json-server is not installed (with Node.js: npm ci --prefix tests/kinds/api/servers/node, as .ci/run does)"
)


@dataclass(frozen=True)
class JsonServer:
    """The running server."""

    url: str

    def add(self, records: Sequence[dict[str, Any]]) -> None:
        """Create records."""
        self._send("POST", records, "/items")

    def change(self, record: dict[str, Any]) -> None:
        """Replace the record of the same id."""
        self._send("PUT", [record], f"/items/{record['id']}")

    def _send(self, method: str, records: Sequence[dict[str, Any]], path: str) -> None:
        with httpx.Client(base_url=self.url, timeout=30) as client:
            for record in records:
                client.request(method, path, json=record).raise_for_status()


@contextmanager
def running_json_server(folder: Path, items: Sequence[dict[str, Any]]) -> Iterator[JsonServer]:
    """Start it in `folder` with these items, on a free port of the loopback interface."""
    file, port = folder / "db.json", any_free()
    file.write_text(json.dumps({"items": list(items)}))
    url = f"http://127.0.0.1:{port}"
    assert NODE is not None, MISSING
    command = [NODE, str(PROGRAM), str(file), "--host", "127.0.0.1", "--port", str(port), "--quiet"]
    with program(command, ready=f"{url}/items?_limit=1", log=folder / "json_server.log", cwd=folder):
        yield JsonServer(url)
