"""The resources of the configured Prefect server.

Requests are plain JSON through Prefect's own client, which knows address, credentials and retries. The answers of a
server of one's own and of Prefect Cloud are the same for all that is asked here; objectives exist on Cloud alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx
from prefect.blocks.core import Block
from prefect.client.base import ServerType
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import PrefectHTTPStatusError

from blocks.lookup import stored
from blocks.server import shown
from blocks.types import TYPES
from deployments import automations
from deployments.declared import block_resource
from deployments.references import with_references
from deployments.resource import KINDS, Kind, Resource
from flows.values.errors import ConfigurationError

Key = tuple[Kind, str]
Json = dict[str, Any]


class Reading:
    """An open connection that only looks.

    Raises, from every method:
        ConfigurationError: the server refuses what is asked, in its own words.
        httpx.HTTPError: it does not answer.
    """

    def __init__(self, client: SyncPrefectClient, blocks: Mapping[str, Block]) -> None:
        self._client = client
        self._blocks = blocks
        self._ids: dict[Key, str] = {}

    @property
    def address(self) -> str:
        """Where it is."""
        return shown(str(self._client.api_url))

    @property
    def is_cloud(self) -> bool:
        """Whether it is Prefect Cloud, by its address."""
        return self._client.server_type == ServerType.CLOUD

    def keeps_sqlite(self) -> bool:
        """Whether its database is SQLite. False on Prefect Cloud, and if it cannot be found out.

        A server masks its database's URL. It searches names with LIKE, in which a backslash escapes the next character
        on PostgreSQL and is an ordinary one on SQLite; block types of Prefect's own are on every server.
        """
        if self.is_cloud:
            return False

        def found(name: str) -> bool:
            return bool(self._ask("POST", "/block_types/filter", {"block_types": {"name": {"like_": name}}}))

        return found("Secret") and not found("\\Secret")

    @property
    def unsupported(self) -> frozenset[Kind]:
        """Kinds that it knows nothing of."""
        return frozenset() if self.is_cloud else frozenset({"objective"})

    def fill(self, blocks: Mapping[str, Block]) -> None:
        """Say which block documents can be written and compared, by the names of their resources."""
        self._blocks = blocks

    def block_names(self) -> set[str]:
        """The documents of our own types that it holds, such as `source-shop`."""
        wanted = {"block_types": {"slug": {"any_": [kind.get_block_type_slug() for kind in TYPES]}}}
        return {document["name"] for document in self._ask("POST", "/block_documents/filter", wanted)}

    # -- read

    def held(self, keys: set[Key], last: Mapping[Key, Resource]) -> dict[Key, Resource]:
        """What it holds of those, in a request a kind. Objectives cannot be read: they are as `last` declared them."""
        names: dict[Kind, list[str]] = {kind: [] for kind in KINDS}
        for kind, name in sorted(keys):
            names[kind].append(name)
        readers: dict[Kind, Callable[[list[str]], Iterable[Resource]]] = {
            "variable": self._variables,
            "block": self._block_documents,
            "work pool": self._pools,
            "work queue": self._queues,
            "limit": self._limits,
            "deployment": self._deployments,
            # After deployments and blocks: their ids are what automations name.
            "automation": self._automations,
            "objective": lambda wanted: (
                last["objective", name] for name in wanted if self.is_cloud and ("objective", name) in last
            ),
        }
        found = [resource for kind, read in readers.items() if names[kind] for resource in read(names[kind])]
        return {resource.key: resource for resource in found}

    def _variables(self, names: list[str]) -> Iterator[Resource]:
        for variable in self._filtered("variables", names):
            fields = {"value": variable["value"], "tags": variable["tags"]}
            yield Resource("variable", variable["name"], fields, id=variable["id"])

    def _block_documents(self, names: list[str]) -> Iterator[Resource]:
        for name in names:
            slug, _, document = name.partition("/")
            answer = self._get(f"/block_types/slug/{slug}/block_documents/name/{quote(document)}")
            if answer is not None:
                self._ids["block", name] = answer["id"]
                ours = self._blocks.get(name)
                present = stored(type(ours), document) if ours is not None else None
                fields = {} if present is None else block_resource(document, present).fields
                yield Resource("block", name, fields, id=answer["id"])

    def _pools(self, names: list[str]) -> Iterator[Resource]:
        fields = ("type", "description", "concurrency_limit", "is_paused", "base_job_template")
        for pool in self._filtered("work_pools", names):
            yield Resource("work pool", pool["name"], {field: pool[field] for field in fields}, id=pool["id"])

    def _queues(self, names: list[str]) -> Iterator[Resource]:
        fields = ("priority", "description", "is_paused")
        for pool in sorted({name.partition("/")[0] for name in names}):
            for queue in self._ask("POST", f"/work_pools/{quote(pool)}/queues/filter", {}, missing_is_fine=True) or ():
                if (name := f"{pool}/{queue['name']}") in names:
                    yield Resource("work queue", name, {field: queue[field] for field in fields}, id=queue["id"])

    def _limits(self, names: list[str]) -> Iterator[Resource]:
        for name in names:
            limit = self._get(f"/v2/concurrency_limits/{quote(name)}")
            if limit is not None:
                yield Resource("limit", name, {"limit": limit["limit"], "active": limit["active"]}, id=limit["id"])

    def _deployments(self, names: list[str]) -> Iterator[Resource]:
        flows = self._filtered("flows", sorted({name.partition("/")[0] for name in names}))
        flow_names = {flow["id"]: flow["name"] for flow in flows}
        for found in self._filtered("deployments", [name.partition("/")[2] for name in names]):
            name = f"{flow_names.get(found['flow_id'])}/{found['name']}"
            if name in names:
                self._ids["deployment", name] = found["id"]
                yield Resource("deployment", name, _deployment_fields(found), id=found["id"])

    def _automations(self, names: list[str]) -> Iterator[Resource]:
        for answer in self._filtered("automations", names):
            document = with_references(answer, self._ids)
            yield automations.as_resource(AutomationCore.model_validate(document), id=answer["id"])

    # -- requests

    def _get(self, path: str) -> Json | None:
        answer: Json | None = self._ask("GET", path, missing_is_fine=True)
        return answer

    def _filtered(self, kind: str, names: list[str]) -> list[Json]:
        wanted = {kind: {"name": {"any_": names}}, "limit": 200}
        answer: list[Json] = self._ask("POST", f"/{kind}/filter", wanted)
        return answer

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request, for what is no resource: the records of deployments."""
        return self._ask(method, path, body)

    def _ask(self, method: str, path: str, body: Any = None, *, missing_is_fine: bool = False) -> Any:
        content = {} if body is None else {"json": body}
        try:
            answer = self._client.request(method, path, **content)  # type: ignore[arg-type]  # lists known paths
        except PrefectHTTPStatusError as problem:
            if problem.response.status_code == httpx.codes.NOT_FOUND and missing_is_fine:
                return None
            raise refused(problem.response, method, path) from None
        return answer.json() if answer.content else None


def _deployment_fields(found: Json) -> Json:
    fields: Json = {
        "entrypoint": found["entrypoint"],
        "description": found["description"],
        "version": found["version"],
        "tags": sorted(found["tags"]),
        "parameters": found["parameters"],
        "parameter_schema": found["parameter_openapi_schema"],
        "work_pool": found["work_pool_name"],
        "work_queue": found["work_queue_name"],
        "job_variables": found["job_variables"],
        "concurrency_limit": (found.get("global_concurrency_limit") or {}).get("limit"),
        "collision_strategy": (found.get("concurrency_options") or {}).get("collision_strategy"),
        "pull_steps": found["pull_steps"],
        "paused": found["paused"],
    }
    for schedule in found["schedules"]:
        slug = schedule["slug"] or schedule["id"]
        when = schedule["schedule"]
        told = when.get("cron") or when.get("rrule") or f"every {when.get('interval')} s"
        fields[f"schedule {slug}"] = f"{told} {when.get('timezone')}"
        fields[f"active {slug}"] = schedule["active"]
    return fields


def refused(response: httpx.Response, method: str, path: str) -> ConfigurationError:
    """What the server answered, as an error with a next move."""
    try:
        said = str(response.json().get("detail") or response.json().get("exception_message") or "")
    except (ValueError, AttributeError):
        said = ""
    code = response.status_code
    move = {
        401: "set PREFECT_API_KEY for Prefect Cloud, or PREFECT_API_AUTH_STRING for a self-hosted server",
        403: "request a role that may change deployments, blocks and automations",
    }.get(code, "fix what it names and deploy again: completed steps are not repeated")
    # Of a refused block nothing may be told but the refusal: its answer could quote what the block holds.
    words = f": {said[:300]}" if said and "/block" not in path else ""
    return ConfigurationError(
        f"the Prefect server responded with {code} to {method} {path.partition('?')[0]}{words}",
        where=shown(str(response.request.url.copy_with(raw_path=b"/"))),
        fix=move,
        retryable=code >= 500,
    )
