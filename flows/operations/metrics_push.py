"""Metrics sent to a Prometheus Pushgateway, for where nobody can scrape.

MEDALLION_METRICS_PUSH_URL=https://pushgateway.example.org/metrics/job/medallion/instance/production
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import httpx
from pydantic import SecretStr

_SECONDS = 5.0


@dataclass(slots=True)
class Push:
    """Replaces a group of a Pushgateway. Its URL is a secret: it is in no log and no alert."""

    url: SecretStr
    _client: httpx.AsyncClient | None = field(default=None, init=False, repr=False)

    async def send(self, text: bytes) -> str | None:
        """Send the metrics; why they were not accepted, if they were not."""
        try:
            self._client = self._client or httpx.AsyncClient(timeout=_SECONDS)
            async with asyncio.timeout(_SECONDS):  # also of an answer that drips
                answer = await self._client.put(
                    self.url.get_secret_value(), content=text, headers={"Content-Type": "text/plain; version=0.0.4"}
                )
        except TimeoutError:
            return f"no answer within {_SECONDS:.0f} s"
        except (httpx.HTTPError, httpx.InvalidURL) as problem:
            return type(problem).__name__
        return None if answer.is_success else f"answer {answer.status_code}"

    async def close(self) -> None:
        """Close its connection."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None
