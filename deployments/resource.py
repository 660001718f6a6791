"""Resources of a Prefect server, as declared or as read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Kind = Literal["variable", "block", "work pool", "work queue", "limit", "deployment", "automation", "objective"]

#: In the order in which they are made: what is named by others comes before them. They are removed the other way.
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Resource:
    """Something a server holds, or is to hold: fields are plain JSON values, so that two of them can be compared.

    Names: `local` for a pool, `local/urgent` for its queue, `ingest/ingest-shop` for a deployment with its flow.
    A field that is not given is not compared, and left as it is.

    `switches` are fields that operators turn by hand (a schedule's pause, a limit): see `deployments.plan`.
    `id` is the server's, on what was read from it.
    """

    kind: Kind
    name: str
    fields: Mapping[str, Any]
    switches: frozenset[str] = frozenset()
    id: str | None = field(default=None, compare=False)

    @property
    def key(self) -> tuple[Kind, str]:
        """What tells it from all others on a server."""
        return self.kind, self.name
