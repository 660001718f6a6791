"""Write and remove resources at the configured Prefect server."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpx
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client

from blocks.documents import register_types, save
from blocks.server import explain_server, require_server
from deployments import automations
from deployments.reading import Json, Reading, refused
from deployments.references import with_ids
from deployments.resource import Kind, Resource
from flows.tasks import tls


class Server(Reading):
    """An open connection. `held(keys)` reads; `write` and `remove` change one thing each."""

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
        if resource.id is None and not [*self._queues([resource.name])]:
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
        owner = f"prefect.deployment.{self._ids['deployment', resource.name]}"
        objectives = [
            {"name": name, "severity": "high", "enabled": True, "duration": 60 * minutes, "owner_resource": owner}
            for name, minutes in resource.fields.items()
        ]
        self._ask("POST", f"/slas/apply-resource-slas/{owner}", objectives)

    # -- remove

    def remove(self, resource: Resource) -> None:
        """Delete the thing; that it is gone already is all the same."""
        if resource.kind == "work queue" and resource.name.endswith("/default"):
            return  # no pool is without one, and it goes with its pool
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
            # They go with their deployment, if that is gone.
            if ("deployment", resource.name) in self._ids:
                self._write_objective(replace(resource, fields={}))
            return
        self._ask("DELETE", paths[resource.kind], missing_is_fine=True)


@contextmanager
def connected(blocks: Mapping[str, Block]) -> Iterator[Server]:
    """The server of PREFECT_API_URL, or of the profile in use. `blocks` by name, as their resources are named.

    Raises:
        ConfigurationError: no server is configured, or it does not serve us, also during what is done with it.
    """
    require_server()
    tls.share()
    try:
        with get_client(sync_client=True) as client:
            yield Server(client, blocks)
    except httpx.HTTPStatusError as problem:  # of Prefect's own calls, such as those that save a block
        raise refused(problem.response, problem.request.method, problem.request.url.path) from None
    except httpx.HTTPError as problem:
        error = explain_server(problem)
        assert error is not None, "it was this server that was asked"
        raise error from None


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
