"""What was deployed, when and from which version: kept at the server, as artifacts that anybody can read there.

A record is written before anything is changed and closed after, so that what a deployment that died had created is
known to be ours. Prefect's variables would be the other place; they end at 5,000 characters, and a record has 20,000.
No record holds a block: those are secrets.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from deployments.resource import Kind, Resource

KEY = "medallion-deployments"
#: As many are kept; older ones are deleted when a new one is closed.
KEPT = 20
_JSON = re.compile(r"^```json\n(.*)\n```$", re.MULTILINE | re.DOTALL)

Key = tuple[Kind, str]


class Asks(Protocol):
    """The one thing that records need of a server."""

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """A request's answer as JSON."""


@dataclass(frozen=True, slots=True)
class Record:
    """A deployment: of which version, to where, what it declared, and what deployments have created up to it.

    `status` is `begun` from before the first change until after the last. `puts_back` is set on a rollback.
    `schedules` is what a person chose with --schedules or --no-schedules; None is as the environment declares.
    """

    environment: str
    version: str
    at: str
    status: Literal["begun", "done"]
    pool: str
    image: str | None
    resources: tuple[Resource, ...]
    owned: frozenset[Key]
    puts_back: str | None = None
    schedules: bool | None = None
    id: str | None = None

    @property
    def last(self) -> dict[Key, Resource]:
        """What it declared, by kind and name."""
        return {resource.key: resource for resource in self.resources}


def read_records(server: Asks, environment: str) -> list[Record]:
    """Records of the environment that can be read, the newest first."""
    wanted = {"artifacts": {"key": {"any_": [KEY]}}, "sort": "CREATED_DESC", "limit": 2 * KEPT}
    found = [_parsed(artifact) for artifact in server.ask("POST", "/artifacts/filter", wanted)]
    return [record for record in found if record is not None and record.environment == environment]


def begin(server: Asks, record: Record) -> Record:
    """Write the record down, with an id."""
    body = {"key": KEY, "type": "markdown", "data": _markdown(record), "description": _title(record)}
    return replace(record, id=server.ask("POST", "/artifacts/", body)["id"])


def close(server: Asks, record: Record) -> None:
    """Mark it done, and delete those that are too many."""
    done = replace(record, status="done")
    body = {"data": _markdown(done), "description": _title(done)}
    server.ask("PATCH", f"/artifacts/{record.id}", body)
    for old in read_records(server, record.environment)[KEPT:]:
        server.ask("DELETE", f"/artifacts/{old.id}")


def now() -> str:
    """The moment, as records write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def recorded(resources: Iterable[Resource]) -> tuple[Resource, ...]:
    """What of them may be written down."""
    return tuple(resource for resource in resources if resource.kind != "block")


def _title(record: Record) -> str:
    what = f"{record.puts_back} restored" if record.puts_back else record.version
    return f"{record.environment}: {what}, {record.status}"


def _markdown(record: Record) -> str:
    document: Mapping[str, Any] = {
        "environment": record.environment,
        "version": record.version,
        "at": record.at,
        "status": record.status,
        "pool": record.pool,
        "image": record.image,
        "puts_back": record.puts_back,
        "schedules": record.schedules,
        "owned": sorted(record.owned),
        "resources": [
            {
                "kind": resource.kind,
                "name": resource.name,
                "fields": dict(resource.fields),
                "switches": sorted(resource.switches),
            }
            for resource in record.resources
        ],
    }
    return (
        f"# {_title(record)}\n\n{record.at}, work pool {record.pool}\n\n```json\n{json.dumps(document, indent=1)}\n```"
    )


def _parsed(artifact: Mapping[str, Any]) -> Record | None:
    """None for what is no record of ours, or was edited by hand until it was none."""
    match = _JSON.search(str(artifact.get("data")))
    try:
        document = json.loads(match.group(1)) if match else {}
        return Record(
            environment=document["environment"],
            version=document["version"],
            at=document["at"],
            status=document["status"],
            pool=document["pool"],
            image=document["image"],
            puts_back=document["puts_back"],
            schedules=document.get("schedules"),
            owned=frozenset((kind, name) for kind, name in document["owned"]),
            resources=tuple(
                Resource(entry["kind"], entry["name"], entry["fields"], frozenset(entry["switches"]))
                for entry in document["resources"]
            ),
            id=str(artifact["id"]),
        )
    except (ValueError, KeyError, TypeError):
        return None
