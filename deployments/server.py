"""The Prefect server in force: what it holds, read and written as `Resource`.

Requests are plain JSON through Prefect's own client, which knows address, credentials and retries. The answers of a
server of one's own and of Prefect Cloud are the same for all that is asked here; objectives exist on Cloud alone.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx
from prefect.blocks.core import Block
from prefect.client.base import ServerType
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import PrefectHTTPStatusError

from blocks.lookup import stored
from blocks.register import register_types, save
from blocks.types import TYPES
from deployments import automations
from deployments.declared import block_resource
from deployments.references import with_ids, with_references
from deployments.resource import Kind, Resource
from flows.spec.errors import ConfigurationError

Key = tuple[Kind, str]
Json = dict[str, Any]


class Server:
    """An open connection. `held(keys)` reads, `write` and `remove` change one thing each.

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
        return str(self._client.api_url).rstrip("/")

    @property
    def is_cloud(self) -> bool:
        """Whether it is Prefect Cloud, by its address."""
        return self._client.server_type == ServerType.CLOUD

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
        """What it holds of those. Objectives cannot be read: they are what the `last` deployment made them."""
        found: dict[Key, Resource] = {}
        readers: dict[Kind, Callable[[str], Resource | None]] = {
            "variable": self._variable,
            "block": self._block,
            "work pool": self._pool,
            "work queue": self._queue,
            "limit": self._limit,
            "deployment": self._deployment,
        }
        # Deployments and blocks first: their ids are what automations name.
        for kind, name in sorted(keys, key=lambda key: key[0] == "automation"):
            if kind == "objective":
                resource = last.get((kind, name)) if self.is_cloud else None
            elif kind == "automation":
                resource = self._automation(name)
            else:
                resource = readers[kind](name)
            if resource is not None:
                found[resource.key] = resource
        return found

    def _variable(self, name: str) -> Resource | None:
        variable = self._get(f"/variables/name/{quote(name)}")
        if variable is None:
            return None
        return Resource("variable", name, {"value": variable["value"], "tags": variable["tags"]}, id=variable["id"])

    def _block(self, name: str) -> Resource | None:
        slug, _, document = name.partition("/")
        answer = self._get(f"/block_types/slug/{slug}/block_documents/name/{quote(document)}")
        if answer is None:
            return None
        self._ids["block", name] = answer["id"]
        ours = self._blocks.get(name)
        present = stored(type(ours), document) if ours is not None else None
        fields = {} if present is None else block_resource(document, present).fields
        return Resource("block", name, fields, id=answer["id"])

    def _pool(self, name: str) -> Resource | None:
        pool = self._get(f"/work_pools/{quote(name)}")
        if pool is None:
            return None
        fields = ("type", "description", "concurrency_limit", "is_paused", "base_job_template")
        return Resource("work pool", name, {field: pool[field] for field in fields}, id=pool["id"])

    def _queue(self, name: str) -> Resource | None:
        pool, _, queue = name.partition("/")
        found = self._get(f"/work_pools/{quote(pool)}/queues/{quote(queue)}")
        if found is None:
            return None
        fields = ("priority", "description", "is_paused")
        return Resource("work queue", name, {field: found[field] for field in fields}, id=found["id"])

    def _limit(self, name: str) -> Resource | None:
        limit = self._get(f"/v2/concurrency_limits/{quote(name)}")
        if limit is None:
            return None
        return Resource("limit", name, {"limit": limit["limit"], "active": limit["active"]}, id=limit["id"])

    def _deployment(self, name: str) -> Resource | None:
        flow, _, deployment = name.partition("/")
        found = self._get(f"/deployments/name/{quote(flow)}/{quote(deployment)}")
        if found is None:
            return None
        self._ids["deployment", name] = found["id"]
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
        return Resource("deployment", name, fields, id=found["id"])

    def _automation(self, name: str) -> Resource | None:
        answer = self._ask("POST", "/automations/filter", {"automations": {"name": {"any_": [name]}}})
        if not answer:
            return None
        document = with_references(answer[0], self._ids)
        return automations.as_resource(AutomationCore.model_validate(document), id=answer[0]["id"])

    # -- write

    def write(self, resource: Resource) -> None:
        """Create the thing, or make it what the resource says. All of it in one request, so nothing is half done."""
        writers: dict[Kind, Callable[[Resource], None]] = {
            "variable": self._write_variable,
            "block": self._write_block,
            "work pool": self._write_pool,
            "work queue": self._write_queue,
            "limit": self._write_limit,
            "deployment": self._write_deployment,
            "automation": self._write_automation,
            "objective": self._write_objective,
        }
        writers[resource.kind](resource)

    def _write_variable(self, resource: Resource) -> None:
        body = {"name": resource.name, **resource.fields}
        if resource.id is None:
            self._ask("POST", "/variables/", body)
        else:
            self._ask("PATCH", f"/variables/{resource.id}", body)

    def _write_block(self, resource: Resource) -> None:
        slug, _, document = resource.name.partition("/")
        register_types()
        block = self._blocks[resource.name]
        block.register_type_and_schema(_sync=True)  # type: ignore[call-arg]  # added by Prefect's dispatcher
        save(document, block)
        answer = self._get(f"/block_types/slug/{slug}/block_documents/name/{quote(document)}")
        if answer is not None:
            self._ids["block", resource.name] = answer["id"]

    def _write_pool(self, resource: Resource) -> None:
        body = dict(resource.fields)
        if resource.id is None:
            template = body.pop("base_job_template", None)
            template = default_template(body["type"]) if template is None else template
            paused = body.pop("is_paused")
            self._ask("POST", "/work_pools/", {"name": resource.name, "base_job_template": template, **body})
            if not paused:
                return
            body = {"is_paused": True}
        else:
            body.pop("type")
        self._ask("PATCH", f"/work_pools/{quote(resource.name)}", body)

    def _write_queue(self, resource: Resource) -> None:
        pool, _, queue = resource.name.partition("/")
        # A pool comes with its default queue, which nobody need have seen before.
        if resource.id is None and self._queue(resource.name) is None:
            self._ask("POST", f"/work_pools/{quote(pool)}/queues", {"name": queue, **resource.fields})
        else:
            self._ask("PATCH", f"/work_pools/{quote(pool)}/queues/{quote(queue)}", dict(resource.fields))

    def _write_limit(self, resource: Resource) -> None:
        if resource.id is None:
            self._ask("POST", "/v2/concurrency_limits/", {"name": resource.name, **resource.fields})
        else:
            self._ask("PATCH", f"/v2/concurrency_limits/{quote(resource.name)}", dict(resource.fields))

    def _write_deployment(self, resource: Resource) -> None:
        flow, _, name = resource.name.partition("/")
        fields = resource.fields
        strategy = fields["collision_strategy"]
        body = {
            "name": name,
            "flow_id": self._ask("POST", "/flows/", {"name": flow})["id"],
            "schedules": list(_schedules(fields)),
            "concurrency_options": {"collision_strategy": strategy} if strategy else None,
            "parameter_openapi_schema": fields["parameter_schema"],
            "work_pool_name": fields["work_pool"],
            "work_queue_name": fields["work_queue"],
            "enforce_parameter_schema": True,
            **{
                field: fields[field]
                for field in (
                    "entrypoint", "description", "version", "tags", "parameters", "job_variables",
                    "concurrency_limit", "pull_steps", "paused",
                )
            },
        }  # fmt: skip
        self._ids["deployment", resource.name] = self._ask("POST", "/deployments/", body)["id"]

    def _write_automation(self, resource: Resource) -> None:
        body = with_ids({"name": resource.name, **resource.fields}, self._ids)
        if resource.id is None:
            owner = with_ids(automations.owner(resource), self._ids)
            self._ask("POST", "/automations/", {**body, "owner_resource": owner})
        else:
            self._ask("PUT", f"/automations/{resource.id}", body)

    def _write_objective(self, resource: Resource) -> None:
        deployment, _, name = resource.name.partition(": ")
        identifier = next(found for (kind, full), found in self._ids.items() if full.endswith(f"/{deployment}"))
        objective = {
            "name": name,
            "severity": "high",
            "enabled": True,
            "duration": resource.fields["minutes"] * 60,
            "owner_resource": f"prefect.deployment.{identifier}",
        }
        self._ask("POST", f"/slas/apply-resource-slas/prefect.deployment.{identifier}", [objective])

    # -- remove

    def remove(self, resource: Resource) -> None:
        """Delete the thing; that it is gone already is all the same."""
        slashed = [quote(part) for part in resource.name.split("/")]
        paths: dict[Kind, str] = {
            "variable": f"/variables/{resource.id}",
            "block": f"/block_documents/{resource.id}",
            "work pool": f"/work_pools/{slashed[0]}",
            "work queue": f"/work_pools/{slashed[0]}/queues/{slashed[-1]}",
            "limit": f"/v2/concurrency_limits/{quote(resource.name)}",
            "deployment": f"/deployments/{resource.id}",
            "automation": f"/automations/{resource.id}",
        }
        if resource.kind == "objective":
            deployment = resource.name.partition(": ")[0]
            identifiers = [found for (_, full), found in self._ids.items() if full.endswith(f"/{deployment}")]
            for identifier in identifiers:
                self._ask("POST", f"/slas/apply-resource-slas/prefect.deployment.{identifier}", [])
            return
        self._ask("DELETE", paths[resource.kind], missing_is_fine=True)

    # -- requests

    def _get(self, path: str) -> Json | None:
        answer: Json | None = self._ask("GET", path, missing_is_fine=True)
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
            raise _refused(problem.response, method, path) from None
        return answer.json() if answer.content else None


@contextmanager
def connected(blocks: Mapping[str, Block]) -> Iterator[Server]:
    """The server of PREFECT_API_URL, or of the profile in use. `blocks` by name, as their resources are named.

    Raises:
        ConfigurationError: no server is named.
    """
    from prefect.settings import get_current_settings

    if not get_current_settings().api.url:
        error = ConfigurationError(
            "no Prefect server is named",
            where="PREFECT_API_URL",
            next_move="set it, or run `medallion up` or `prefect cloud login`",
        )
        error.exit_code = 2
        raise error
    with get_client(sync_client=True) as client:
        yield Server(client, blocks)


def default_template(kind: str) -> Json:
    """The template of Prefect's own, where it is installed here; other types take theirs from their first worker."""
    if kind == "process":
        from prefect.workers.process import ProcessWorker

        return ProcessWorker.get_default_base_job_template()
    if kind == "ecs":
        from prefect_aws.workers import ECSWorker

        return dict(ECSWorker.get_default_base_job_template())
    return {}


def _schedules(fields: Mapping[str, Any]) -> Iterator[Json]:
    for name, told in fields.items():
        kind, _, slug = name.partition(" ")
        if kind == "schedule":
            cron, _, timezone = str(told).rpartition(" ")
            yield {
                "slug": slug,
                "active": fields[f"active {slug}"],
                "schedule": {"cron": cron, "timezone": timezone, "day_or": True},
            }


def _refused(response: httpx.Response, method: str, path: str) -> ConfigurationError:
    try:
        said = str(response.json().get("detail") or response.json().get("exception_message") or "")
    except (ValueError, AttributeError):
        said = ""
    code = response.status_code
    move = {
        401: "set PREFECT_API_KEY for Prefect Cloud, or PREFECT_API_AUTH_STRING for a server of your own",
        403: "ask for a role that may change deployments, blocks and automations",
    }.get(code, "correct what it names and deploy again: what is done already is not done twice")
    # Of a refused block nothing may be told but the refusal: its answer could quote what the block holds.
    words = f": {said[:300]}" if said and "/block" not in path else ""
    return ConfigurationError(
        f"the Prefect server answered {code} to {method} {path.partition('?')[0]}{words}",
        where=f"{response.request.url.scheme}://{response.request.url.netloc.decode()}",
        next_move=move,
        retryable=code >= 500,
    )
