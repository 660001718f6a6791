"""Checks before a deployment: the server belongs to the environment, and has not changed since the plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deployments import records
from deployments.declared import ENVIRONMENT_VARIABLE
from deployments.environments import Environment
from deployments.plan import Key
from deployments.resource import Resource
from deployments.server import Server
from flows.values.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Seen:
    """What a plan was made from: what was looked for, what of it was held, and the newest record."""

    keys: frozenset[Key]
    held: Mapping[Key, Resource]
    last: Mapping[Key, Resource]
    record: str | None


def refuse_stale(server: Server, environment: str, seen: Seen) -> None:
    """Between a plan and the answer to it there may be an hour, in which somebody else pauses, deploys or deletes.

    Raises:
        ConfigurationError: the server holds something else than it did then, or another deployment began.
    """
    history = records.read_records(server, environment)
    held = server.held(set(seen.keys), seen.last)
    changed = sorted(key for key in seen.keys if held.get(key) != seen.held.get(key))
    if changed or (history[0].id if history else None) != seen.record:
        named = ", ".join(f"{kind} {name}" for kind, name in changed[:5]) or "another deployment started"
        error = ConfigurationError(
            f"the server has changed since the plan was created: {named}",
            where=server.address,
            fix="run the command again, and check the new plan; nothing was changed",
            retryable=True,
        )
        error.exit_code = 2
        raise error


def refuse_another_environment(server: Server, environment: Environment) -> None:
    """Two environments in one server would overwrite each other's deployments, which have the same names.

    Raises:
        ConfigurationError: the server says that it is another one's.
    """
    held = server.held({("variable", ENVIRONMENT_VARIABLE)}, {})
    for variable in held.values():
        if variable.fields["value"] != environment.name:
            error = ConfigurationError(
                f"this server is {variable.fields['value']}, not {environment.name}",
                where=server.address,
                fix="set PREFECT_API_URL to the environment's own server or workspace; to reassign this server, "
                f"delete its Prefect variable {ENVIRONMENT_VARIABLE} first",
            )
            error.exit_code = 2
            raise error


def refuse_sqlite(server: Server, environment: Environment) -> None:
    """A server on SQLite fails writes as soon as runs start together (benchmarks/results/prefect_database.md).

    Raises:
        ConfigurationError: the environment needs PostgreSQL for its Prefect server, which is on SQLite.
    """
    if environment.needs_postgresql and server.keeps_sqlite():
        error = ConfigurationError(
            f"the Prefect server of {environment.name} uses SQLite",
            where=server.address,
            fix="set PREFECT_SERVER_DATABASE_CONNECTION_URL=postgresql+asyncpg://… in the server's environment, "
            "restart it, and deploy again (docs/deploy.md#the-servers-database); nothing was changed",
        )
        error.exit_code = 2
        raise error


def refuse_another_type(wanted: Sequence[Resource], held: Mapping[Key, Resource]) -> None:
    """Prefect cannot change a pool's type, and would leave its workers polling for nothing.

    Raises:
        ConfigurationError: a pool is there under its name, of another type.
    """
    for resource in wanted:
        present = held.get(resource.key)
        if resource.kind == "work pool" and present and present.fields["type"] != resource.fields["type"]:
            error = ConfigurationError(
                f"work pool {resource.name} has type {present.fields['type']}, not {resource.fields['type']}",
                where="work pool",
                fix="delete it, or declare a pool with another name in deployments/work_pools.py",
            )
            error.exit_code = 2
            raise error
