"""Lists that a scripted server hands out piece by piece, in every style that is declared, from records that may change.

    shop = Listing([{"id": n} for n in range(1, 8)])
    async with serve(forever=shop.by_page()) as server:
        ...

Each answer is computed from the request, as a server does; `before` may change the records just before an answer.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.kinds.api.http_servers import Answer, Request, response

Record = dict[str, Any]


@dataclass
class Listing:
    """Records in the order in which the API lists them, at most `cap` a page whatever is asked for."""

    records: list[Record]
    cap: int = 3
    delay: float = 0.0
    at_work: int = 0
    most_at_work: int = 0
    before: Callable[[Request], None] = field(default=lambda request: None)

    def answering(self, page: Callable[[Request], tuple[dict[str, Any], tuple[str, ...]]]) -> Answer:
        """An answer whose body and headers `page` makes of the request."""

        async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
            self.at_work += 1
            self.most_at_work = max(self.most_at_work, self.at_work)
            await asyncio.sleep(self.delay)
            self.before(request)
            body, headers = page(request)
            self.at_work -= 1
            writer.write(response(body.pop("status", 200), json.dumps(body).encode(), *headers))

        return answer

    def slice(self, begin: int, limit: int | None = None) -> list[Record]:
        return self.records[begin : begin + min(limit or self.cap, self.cap)]

    def by_page(self, past_end: int = 200) -> Answer:
        def page(request: Request) -> tuple[dict[str, Any], tuple[str, ...]]:
            number = int(request.query.get("page", "1"))
            found = self.slice((number - 1) * self.cap)
            pages = -(-len(self.records) // self.cap)
            body = {"data": found, "total": len(self.records), "pages": pages}
            return body | ({"status": past_end} if not found else {}), ()

        return self.answering(page)

    def by_offset(self) -> Answer:
        def page(request: Request) -> tuple[dict[str, Any], tuple[str, ...]]:
            query = request.query if request.method == "GET" else json.loads(request.body)
            found = self.slice(int(query.get("offset", 0)), int(query.get("limit", 100)))
            return {"data": found, "total": len(self.records)}, ()

        return self.answering(page)

    def by_token(self, where: str = "body") -> Answer:
        """The token names the record that a page ends with, as most APIs' opaque ones do inside."""

        def page(request: Request) -> tuple[dict[str, Any], tuple[str, ...]]:
            asked = request.query if request.method == "GET" else json.loads(request.body)
            begin = int(asked.get("after") or 0)
            found = self.slice(begin)
            more = begin + len(found) < len(self.records)
            token = begin + len(found)
            body = {"data": found, "paging": {"next": str(token), "more": more}}
            if where == "header":
                return {"data": found}, (f"X-Next: {token}",) if more else ()
            if where == "url":
                url = f"/v1/items?after={token}" if more else None
                return {"data": found, "link": [{"relation": "self", "url": "?"}, {"relation": "next", "url": url}]}, ()
            if where == "next-header":
                return {"data": found}, (f"Next-Page: /v1/items?after={token}",) if more else ()
            return body, ()

        return self.answering(page)
