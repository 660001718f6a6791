"""An imitation of Shopify's Admin REST API, after https://shopify.dev/docs/api/admin-rest and …/usage/pagination-rest.

    GET /admin/api/2024-10/orders.json?limit=50&status=any&updated_at_min=2024-01-01T00:00:00Z
    X-Shopify-Access-Token: shpat_…
    → Link: <http://…/orders.json?limit=50&page_info=eyJs…>; rel="next"     absent when everything fits one page
      X-Shopify-Shop-Api-Call-Limit: 1/40
      {"orders": [{"id": 450789469, "updated_at": "2024-01-02T09:00:00-05:00", …}, …]}

What makes it awkward, as documented: `page_info` stands with `limit` and `fields` only, anything else is a 400; orders
that are closed or cancelled are left out unless `status=any`; a page holds 50 records unless told otherwise, and 250
at most; the bucket of 40 calls leaks 2 a second, and an overflow is a 429 with `Retry-After: 2.0`, a decimal number.
"""

import base64
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from tests.kinds.api.servers.imitation import Asked, Imitation, Reply, as_json, moment

VERSION = "2024-10"
TOKEN = "shpat_canary_2f6a"
_LISTS = ("orders", "products", "customers")
_WITH_PAGE_INFO = {"page_info", "limit", "fields"}


@dataclass
class Shopify(Imitation):
    """A shop of orders, products and customers, by id."""

    lists: dict[str, dict[int, dict[str, Any]]] = field(default_factory=lambda: {name: {} for name in _LISTS})
    #: Calls that fit the bucket, and how many leak out of it in a second.
    bucket: int = 40
    leak: float = 2.0
    _level: float = 0.0
    _leaked_at: float = 0.0

    def put(self, name: str, *records: dict[str, Any]) -> None:
        """Create records, or replace those of the same id."""
        self.lists[name] |= {record["id"]: record for record in records}

    def clear(self, bucket: int = 40, leak: float = 2.0) -> None:
        """An empty shop with an empty bucket, and nothing asked yet."""
        self.begin()
        self.lists = {name: {} for name in _LISTS}
        self.bucket, self.leak, self._level = bucket, leak, 0.0

    def answer(self, asked: Asked) -> Reply:
        """The access token, then the bucket, then the page."""
        if asked.headers.get("x-shopify-access-token") != TOKEN:
            wrong = "[API] Invalid API key or access token (unrecognized login or wrong password)"
            return as_json(401, {"errors": wrong})
        if not self._drop_fits():
            exceeded = f"Exceeded {self.leak:g} calls per second for api client. Reduce request rates to resume."
            return as_json(429, {"errors": exceeded}, "Retry-After: 2.0", self._call_limit())
        reply = self._page(asked)
        return Reply(reply.code, reply.body, (*reply.headers, self._call_limit()), reply.content_type)

    def _drop_fits(self) -> bool:
        now = time.monotonic()
        self._level = max(0.0, self._level - (now - self._leaked_at) * self.leak)
        self._leaked_at = now
        if self._level + 1 > self.bucket:
            return False
        self._level += 1
        return True

    def _call_limit(self) -> str:
        return f"X-Shopify-Shop-Api-Call-Limit: {math.ceil(self._level)}/{self.bucket}"

    def _page(self, asked: Asked) -> Reply:
        found_path = re.fullmatch(r"/admin/api/\d{4}-\d\d/(\w+)(?:/(\w+))?\.json", asked.path)
        name, rest = (found_path[1], found_path[2] or "") if found_path else ("", "")
        if name not in self.lists or rest not in ("", "count") or asked.method != "GET":
            return as_json(404, {"errors": "Not Found"})
        limit, query, last_id = min(int(asked.query.get("limit", 50)), 250), asked.query, 0
        if "page_info" in query:
            if extra := sorted(query.keys() - _WITH_PAGE_INFO):
                return as_json(400, {"errors": {extra[0]: f"{extra[0]} cannot be passed when page_info is present."}})
            try:
                place = json.loads(base64.urlsafe_b64decode(query["page_info"]))
                last_id, query = place["last_id"], place["query"]
            except (ValueError, KeyError):
                return as_json(400, {"errors": {"page_info": "Invalid value."}})
        found = [one for one in self._matching(name, query) if one["id"] > last_id]
        if rest == "count":
            return as_json(200, {"count": len(found)})
        page = found[:limit]
        links = (self._link(asked.path, limit, page[-1]["id"], query),) if len(found) > limit else ()
        return as_json(200, {name: page}, *links)

    def _matching(self, name: str, query: Mapping[str, str]) -> Sequence[dict[str, Any]]:
        records = sorted(self.lists[name].values(), key=lambda record: int(record["id"]))
        if name == "orders" and query.get("status", "open") == "open":
            records = [one for one in records if not one.get("closed_at") and not one.get("cancelled_at")]
        if since := query.get("updated_at_min"):
            records = [one for one in records if moment(one["updated_at"]) >= moment(since)]
        if until := query.get("updated_at_max"):
            records = [one for one in records if moment(one["updated_at"]) <= moment(until)]
        return [one for one in records if one["id"] > int(query.get("since_id", 0))]

    def _link(self, path: str, limit: int, last_id: int, query: Mapping[str, str]) -> str:
        kept = {name: value for name, value in query.items() if name not in ("limit", "page_info")}
        place = base64.urlsafe_b64encode(json.dumps({"last_id": last_id, "query": kept}).encode()).decode()
        return f'Link: <{self.url}{path}?{urlencode({"limit": limit, "page_info": place})}>; rel="next"'


def order(number: int, updated_at: str = "2024-01-02T09:00:00-05:00", **more: Any) -> dict[str, Any]:
    """An order with the fields that matter here: money as text, a customer inside, one line and more."""
    return {
        "id": number,
        "name": f"#{number}",
        "email": f"buyer{number}@example.com",
        "updated_at": updated_at,
        "closed_at": None,
        "cancelled_at": None,
        "total_price": f"{number % 97}.10",
        "customer": {"id": 900 + number % 7},
        "line_items": [{"id": number * 10 + line, "quantity": line, "price": "1.10"} for line in (1, 2)],
        **more,
    }
