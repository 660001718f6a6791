"""Kinto, a store of records behind an API: https://docs.kinto-storage.org.

    GET /v1/buckets/shop/collections/orders/records?_limit=2&_since="1700000000000"
    → ETag: "1700000000123"
      Next-Page: http://127.0.0.1:8888/v1/…/records?_limit=2&_token=…        absent on the last page
      {"data": [{"id": "…", "last_modified": 1700000000123, …}, {"id": "…", "last_modified": …, "deleted": true}]}

`_since` is exclusive. Deleted records are told of only when it is given; without `_sort` the newest come first.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from infra.local.ports import any_free
from tests.kinds.api.servers.program import program

USER, PASSWORD = "reader", "canary-kinto-5d1e"
_SETTINGS = """
[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = %(http_port)s
threads = 12

[app:main]
use = egg:kinto
kinto.storage_backend = kinto.core.storage.memory
kinto.cache_backend = kinto.core.cache.memory
kinto.permission_backend = kinto.core.permission.memory
kinto.userid_hmac_secret = of-the-tests
kinto.batch_max_requests = 2000
kinto.bucket_create_principals = system.Authenticated
multiauth.policies = basicauth
"""


@dataclass(frozen=True)
class Collection:
    """One list of records in a running Kinto."""

    base: str
    path: str
    client: httpx.Client

    def put(self, records: Sequence[dict[str, Any]]) -> None:
        """Create or change records by their `id`, in order: each gets a later `last_modified` than the one before."""
        self._batch("PUT", [(str(record["id"]), {"data": record}) for record in records])

    def delete(self, *ids: str) -> None:
        """Delete records, which leaves tombstones."""
        self._batch("DELETE", [(one, None) for one in ids])

    def live(self) -> dict[str, dict[str, Any]]:
        """What the server holds, by id."""
        answer = self.client.get(self.path, params={"_limit": 10_000}).raise_for_status()
        return {record["id"]: record for record in answer.json()["data"]}

    def _batch(self, method: str, requests: Sequence[tuple[str, dict[str, Any] | None]]) -> None:
        made = [
            {"method": method, "path": f"{self.path}/{one}", **({"body": body} if body else {})}
            for one, body in requests
        ]
        answer = self.client.post("/v1/batch", json={"requests": made}).raise_for_status()
        refused = [one for one in answer.json()["responses"] if one["status"] >= 400]
        assert not refused, refused[0]


@dataclass(frozen=True)
class Kinto:
    """A running Kinto; anyone with a name and a password may create buckets, and reads only one's own."""

    url: str

    @contextmanager
    def collection(self, bucket: str, name: str = "orders") -> Iterator[Collection]:
        """A new, empty list of `USER`'s own; the bucket goes with the block."""
        with httpx.Client(base_url=self.url, auth=(USER, PASSWORD), timeout=30) as client:
            client.put(f"/v1/buckets/{bucket}").raise_for_status()
            client.put(f"/v1/buckets/{bucket}/collections/{name}").raise_for_status()
            yield Collection(self.url, f"/v1/buckets/{bucket}/collections/{name}/records", client)
            client.delete(f"/v1/buckets/{bucket}").raise_for_status()


@contextmanager
def running_kinto(folder: Path) -> Iterator[Kinto]:
    """Start it in `folder`, on a free port of the loopback interface."""
    settings, port = folder / "kinto.ini", any_free()
    settings.write_text(_SETTINGS)
    url = f"http://127.0.0.1:{port}"
    start = "from kinto.__main__ import main; raise SystemExit(main())"  # `python -m kinto` does nothing
    command = [sys.executable, "-c", start, "start", "--ini", str(settings), "--port", str(port)]
    with program(command, ready=f"{url}/v1/", log=folder / "kinto.log"):
        yield Kinto(url)
