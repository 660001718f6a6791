"""Prefect's broker on Redis, whose events are written only if they are kept: see `infra.events.kept`."""

from typing import Any

from prefect_redis.messaging import Consumer as _Consumer
from prefect_redis.messaging import Publisher, break_topic, ephemeral_subscription

from infra.events.kept import Handler, handler_for

__all__ = ["Consumer", "Publisher", "break_topic", "ephemeral_subscription"]


class Consumer(_Consumer):  # type: ignore[misc]  # Prefect's server is not read by mypy here
    """A consumer that hands the service that writes events only those that are kept."""

    def __init__(self, topic: str, *, group: str | None = None, **options: Any) -> None:
        super().__init__(topic, group=group, **options)
        self._called = (topic, group)

    async def run(self, handler: Handler) -> None:
        """Consume until told to stop."""
        await super().run(handler_for(*self._called, handler))
