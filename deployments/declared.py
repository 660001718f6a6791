"""The declared resources of an environment, from declarations only, without requests to a server."""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.blocks.core import Block

from blocks import alerts
from blocks.documents import values_of
from blocks.lookup import document_name
from blocks.types import AlertChannel
from deployments import automations
from deployments.environments import Environment
from deployments.limits import concurrency_limits
from deployments.prefect_yaml import DeclaredDeployment, read_deployments
from deployments.resource import Resource
from deployments.work_pools import IMAGE_FOLDER, WORK_QUEUES, WorkPool
from flows.sources import SOURCES
from flows.values.errors import ConfigurationError

#: The Prefect variable with the server's environment.
ENVIRONMENT_VARIABLE = "medallion_environment"

# Blocks are compared by digests keyed per process, so that no plan contains their values.
_DIGEST_KEY = secrets.token_bytes(32)
#: Blocks of the data lake, as `blocks.aws` names them; importing it takes two seconds.
LAKE_PREFIXES = ("landing", "results", "backups")

_STEP = "prefect.deployments.steps.set_working_directory"


@dataclass(frozen=True, slots=True)
class Target:
    """An environment, and what a person chooses for it: pool, image, job template, version; `root` is the clone.

    Raises:
        ConfigurationError: the pool is not one of the environment's, or its runs need an image and none is named.
    """

    environment: Environment
    pool: WorkPool
    version: str
    root: Path
    image: str | None = None
    base_job_template: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        wrong = None
        if self.pool.name not in self.environment.work_pools:
            wrong = f"{self.environment.name} does not use the work pool {self.pool.name!r}"
            move = f"use one of {', '.join(self.environment.work_pools)}, or add it in deployments/environments.py"
        elif self.pool.needs_image and not self.image:
            wrong = f"runs in the work pool {self.pool.name!r} need an image"
            move = "name it: --image registry.example.com/medallion:1.2.0"
        if wrong:
            error = ConfigurationError(wrong, where=f"environment {self.environment.name}", fix=move)
            error.exit_code = 2
            raise error


def declared(target: Target, blocks: list[tuple[str, Block]], channel: AlertChannel | None) -> list[Resource]:
    """The declared resources. `blocks` are those with values; `channel` is the target of alerts, if configured."""
    environment = target.environment
    deployments = read_deployments(target.root)
    documents = [*blocks]
    if channel is not None:
        documents.append((alerts.NAME, alerts.notification(channel)))
    found = [
        *_variables(environment),
        *(block_resource(name, block) for name, block in documents),
        *pool_and_queues(target),
        *limits(environment),
        *(_deployment(target, deployment) for deployment in deployments),
        *automations.follows(deployments, enabled=environment.active),
        *automations.watches(environment, deployments),
    ]
    if channel is not None and environment.server_alerts:
        name = f"{alerts.notification(channel).get_block_type_slug()}/{alerts.NAME}"
        found += automations.alerts(environment, deployments, block=name, severity=channel.severity)
    return [*found, *_objectives(environment, deployments)]


def _objectives(environment: Environment, deployments: list[DeclaredDeployment]) -> Iterator[Resource]:
    """Service levels by deployment, with minutes by name: Prefect Cloud takes those of one deployment together."""
    for deployment in deployments:
        named = {
            objective.name: objective.minutes
            for objective in environment.objectives
            if objective.deployment == deployment.name
        }
        if named:
            yield Resource("objective", deployment.full_name, named)


def _variables(environment: Environment) -> Iterator[Resource]:
    for name, value in {ENVIRONMENT_VARIABLE: environment.name, **environment.variables}.items():
        yield Resource("variable", name, {"value": value, "tags": ["medallion"]})


def block_resource(name: str, block: Block) -> Resource:
    """The document, known by digests of its fields."""
    fields = {
        field: hmac.digest(_DIGEST_KEY, json.dumps(value, default=str, sort_keys=True).encode(), hashlib.sha256).hex()
        for field, value in values_of(block).items()
    }
    return Resource("block", f"{block.get_block_type_slug()}/{document_name(name)}", fields)


def pool_and_queues(target: Target) -> Iterator[Resource]:
    """The pool that was chosen, and its queues."""
    pool = target.pool
    fields: dict[str, Any] = {
        "type": pool.type,
        "description": pool.description,
        "concurrency_limit": pool.concurrency_limit,
        "is_paused": False,
    }
    if target.base_job_template is not None:
        fields["base_job_template"] = dict(target.base_job_template)
    yield Resource("work pool", pool.name, fields, frozenset({"concurrency_limit", "is_paused"}))
    for queue in WORK_QUEUES:
        yield Resource(
            "work queue",
            f"{pool.name}/{queue.name}",
            {"priority": queue.priority, "description": queue.description, "is_paused": False},
            frozenset({"is_paused"}),
        )


def limits(environment: Environment) -> Iterator[Resource]:
    """Global concurrency limits: the sources' and the warehouse's, or what the environment says instead."""
    for name, limit in {**dict(concurrency_limits()), **environment.limits}.items():
        yield Resource("limit", name, {"limit": limit, "active": True}, frozenset({"limit", "active"}))


def _deployment(target: Target, deployment: DeclaredDeployment) -> Resource:
    entry, environment = deployment.entry, target.environment
    concurrency = entry.get("concurrency_limit") or {}
    fields: dict[str, Any] = {
        "entrypoint": entry["entrypoint"],
        "description": entry.get("description"),
        "version": target.version,
        "tags": sorted(entry.get("tags") or ()),
        "parameters": entry.get("parameters") or {},
        "parameter_schema": deployment.parameter_schema,
        "work_pool": target.pool.name,
        "work_queue": (entry.get("work_pool") or {}).get("work_queue_name", "default"),
        "job_variables": job_variables(target),
        "concurrency_limit": concurrency.get("limit"),
        "collision_strategy": concurrency.get("collision_strategy"),
        "pull_steps": [{_STEP: {"directory": str(target.root) if target.pool.code == "clone" else IMAGE_FOLDER}}],
        "paused": False,
    }
    switches = {"paused"}
    for schedule in entry.get("schedules") or ():
        slug = schedule["slug"]
        fields[f"schedule {slug}"] = f"{schedule['cron']} {schedule['timezone']}"
        fields[f"active {slug}"] = environment.active and schedule.get("active", True)
        switches.add(f"active {slug}")
    return Resource("deployment", deployment.full_name, fields, frozenset(switches))


def job_variables(target: Target) -> dict[str, Any]:
    """Of every flow run: its environment's own for this pool, its image, and the variables that all of them get."""
    own = target.environment.job_variables.get(target.pool.name, {})
    variables = {
        "MEDALLION_ENVIRONMENT": target.environment.name,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(target.environment.heartbeat_seconds),
        **own.get("env", {}),
    }
    found = {**own, "env": variables}
    if target.pool.needs_image:
        found["image"] = target.image
    return found


def address_blocks() -> dict[str, str]:
    """The block documents with connection URLs for flow runs, each with the variable that fills it."""
    wanted = {"warehouse": "MEDALLION_WAREHOUSE_URL"}
    for source in SOURCES:
        if source.connection is not None:
            name = document_name(f"source-{source.connection}")
            wanted[name] = f"MEDALLION_SOURCE_{source.connection.upper()}_URL"
    return wanted


def is_wanted_block(name: str) -> bool:
    """Whether a document is declared, whether or not it is configured in this shell.

    Only other documents are no longer declared: a deployment from a shell without URLs must not remove workers' ones.
    """
    return name.partition("/")[2] in {*address_blocks(), *LAKE_PREFIXES, "alerts", alerts.NAME}


def missing_blocks(present: set[str], *, secrets_prefix: str) -> Iterator[str]:
    """Lines on documents that flow runs need and will not find, with the variable that would fill each.

    Nothing is missing if URLs come from AWS Secrets Manager. `present` are names such as `source-shop`.
    """
    if secrets_prefix:
        return
    for name, variable in address_blocks().items():
        if name not in present and not os.environ.get(variable):
            yield f"no block {name}: set {variable} and deploy again, or give workers the variable"
