"""The events that are stored in Prefect's database, for its event feed.

An unchanged run of the demo sends 626 events. Stored, they were 3.7 of the 4.5 MB by which the database grew, and
nothing reads them afterwards: states of task runs are in the table of task runs, and artifacts in theirs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

#: Of Prefect's own events, these answer what the tables of runs do not: what an automation reacted to and did, and when
#: a worker, a pool, a deployment or a run changed its state.
KEPT = (
    "prefect.automation.",
    "prefect.deployment.",
    "prefect.flow-run.",
    "prefect.runner.",
    "prefect.work-pool.",
    "prefect.work-queue.",
    "prefect.worker.",
)
#: One every 30 seconds for each run; automations hear it, and compare with the next.
_HEARTBEAT = "prefect.flow-run.heartbeat"
_PERSISTER = "event-persister"


class Message(Protocol):
    """What a broker delivers: an event as JSON, and its name as an attribute."""

    @property
    def attributes(self) -> Any: ...


Handler = Callable[[Any], Awaitable[None]]


def is_kept(event: str) -> bool:
    """Whether the event is written: those of others, such as `medallion.schema.changed`, and Prefect's in `KEPT`."""
    return not event.startswith("prefect.") or (event.startswith(KEPT) and event != _HEARTBEAT)


def handler_for(topic: str, group: str | None, handler: Handler) -> Handler:
    """The handler, which is not handed what need not be written if it belongs to the service that writes events."""
    if (topic, group) != ("events", _PERSISTER):
        return handler

    async def keep(message: Message) -> None:
        # A message without its event's name is not ours to judge.
        if is_kept((message.attributes or {}).get("event", "")):
            await handler(message)

    return keep
