"""A relay before a real server, so that trouble can happen to it on demand, too.

    with Relay(to=kinto.url) as relay:
        relay.trouble[2] = cut
        relay.before[3] = lambda: items.delete(7)

The caller's Host goes along, so that the links a server writes lead back to the relay.
"""

from dataclasses import dataclass, field
from urllib.parse import urlencode

import httpx

from tests.kinds.api.servers.imitation import Asked, Imitation, Reply

# What belongs to one connection, and lengths, which are written anew.
_NOT_RELAYED = {"connection", "keep-alive", "transfer-encoding", "content-length", "content-type", "content-encoding"}


@dataclass
class Relay(Imitation):
    """Passes every request on to the server at `to`."""

    to: str = ""
    _client: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(timeout=30))

    async def respond(self, asked: Asked) -> Reply:
        """The other server's answer."""
        query = f"?{urlencode(asked.query)}" if asked.query else ""
        headers = {**asked.headers, "accept-encoding": "identity"}
        answer = await self._client.request(
            asked.method, f"{self.to}{asked.path}{query}", headers=headers, content=asked.body
        )
        kept = tuple(f"{name}: {value}" for name, value in answer.headers.items() if name not in _NOT_RELAYED)
        return Reply(answer.status_code, answer.content, kept, answer.headers.get("content-type", "text/plain"))
