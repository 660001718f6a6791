"""The environments of the platform, in the order of promotion. Each has its own Prefect server.

prefect.yaml declares what runs, and is the same everywhere. This module declares where, and what starts automatically.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deployments.limits import concurrency_limits
from deployments.work_pools import WORK_POOLS
from flows.values.errors import ConfigurationError, DeclarationError
from flows.values.settings import settings

#: Prefect sends no heartbeat more often than this.
SHORTEST_HEARTBEAT_SECONDS = 30
#: Nor does it detect missing events in a shorter time.
SHORTEST_PENDING_SECONDS = 10
#: After how long a run that a worker took is taken for lost: images that are pulled and nodes that are added take some
#: minutes.
PENDING_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Objective:
    """A service level that Prefect Cloud watches: a run of `deployment` may take `minutes`, and no longer."""

    name: str
    deployment: str
    minutes: int


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment: MEDALLION_ENVIRONMENT names it, its flows run in one of `work_pools`, changes come from another.

    `work_pools`         the first is taken, unless `medallion deploy --pool` chooses another of them
    `active`             whether anything starts automatically: schedules and triggers
    `needs_postgresql`   whether its Prefect server may not keep its database in SQLite
    `asks_for_name`      whether a person must type the name before anything is changed
    `job_variables`      by pool: size, account and environment of a flow run; no secrets
    `limits`             concurrency limits that differ from the declared sources'
    `variables`          Prefect variables, beside `medallion_environment`
    `heartbeat_seconds`  how often a run says that it lives
    `missed_heartbeats`  after how many of them a run is taken for crashed
    `pending_seconds`    after how long without beginning a run that a worker took is taken for crashed
    `attempts`           how often a run that crashed is started, the first time among them
    `server_alerts`      whether the Prefect server sends alerts itself: only if `medallion watch` does not run, which
                         sends the same once, grouped, and until the receiver accepts them
    `objectives`         left out where the server is not Prefect Cloud

    Raises:
        DeclarationError: it contradicts itself, or names a pool or limit that is not declared.
    """

    name: str
    work_pools: tuple[str, ...]
    promotes_from: str | None = None
    active: bool = False
    needs_postgresql: bool = False
    asks_for_name: bool = False
    job_variables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    heartbeat_seconds: int = SHORTEST_HEARTBEAT_SECONDS
    missed_heartbeats: int = 3
    pending_seconds: int = PENDING_SECONDS
    attempts: int = 3
    server_alerts: bool = False
    objectives: tuple[Objective, ...] = ()

    def __post_init__(self) -> None:
        pools = {pool.name for pool in WORK_POOLS}
        known_limits = {name for name, _ in concurrency_limits()}
        if not self.work_pools or set(self.work_pools) - pools:
            raise self._wrong(f"its work pools must be among {', '.join(sorted(pools))}")
        if strange := set(self.job_variables) - set(self.work_pools):
            raise self._wrong(f"it has job variables for pools it does not use: {', '.join(sorted(strange))}")
        if strange := set(self.limits) - known_limits:
            raise self._wrong(f"there is no limit called {', '.join(sorted(strange))}")
        if any(limit < 1 for limit in self.limits.values()):
            raise self._wrong("a limit of 0 would stop every load")
        if self.heartbeat_seconds < SHORTEST_HEARTBEAT_SECONDS:
            raise self._wrong(f"Prefect's shortest heartbeat interval is {SHORTEST_HEARTBEAT_SECONDS} seconds")
        if self.missed_heartbeats < 1:
            raise self._wrong("a run must miss at least one heartbeat before it counts as crashed")
        if self.pending_seconds < SHORTEST_PENDING_SECONDS:
            raise self._wrong(f"Prefect's shortest pending time is {SHORTEST_PENDING_SECONDS} seconds")
        if self.attempts < 1:
            raise self._wrong("a run needs at least one attempt")
        if self.promotes_from == self.name:
            raise self._wrong("it is promoted from itself")

    def _wrong(self, what: str) -> DeclarationError:
        return DeclarationError(
            f"environment {self.name!r}: {what}",
            where="deployments/environments.py",
            fix="correct the declaration",
        )


_ANYWHERE = ("local", "docker", "ecs", "kubernetes")
_SMALL = {"cpu": 1024, "memory": 4096}
_LARGE = {"cpu": 2048, "memory": 8192}
_ACCOUNT = "medallion-flow-run"

ENVIRONMENTS = (
    Environment(
        "dev",
        work_pools=_ANYWHERE,
        job_variables={
            "ecs": _SMALL,
            "kubernetes": {"namespace": "medallion-dev", "service_account_name": _ACCOUNT},
        },
    ),
    Environment(
        "staging",
        work_pools=("ecs", "kubernetes", "docker", "local"),
        promotes_from="dev",
        needs_postgresql=True,
        job_variables={
            "ecs": _LARGE,
            "kubernetes": {"namespace": "medallion-staging", "service_account_name": _ACCOUNT},
        },
    ),
    Environment(
        "production",
        work_pools=("ecs", "kubernetes", "docker", "local"),
        promotes_from="staging",
        active=True,
        needs_postgresql=True,
        asks_for_name=True,
        job_variables={
            "ecs": _LARGE,
            "kubernetes": {"namespace": "medallion-production", "service_account_name": _ACCOUNT},
        },
        # An hour's ingests and the transform after them are to be over before the next hour's begin.
        objectives=(Objective("transform within half an hour", deployment="transform", minutes=30),),
    ),
)


def _promotions_lead_somewhere() -> None:
    names = [environment.name for environment in ENVIRONMENTS]
    for place, environment in enumerate(ENVIRONMENTS):
        if environment.promotes_from is not None and environment.promotes_from not in names[:place]:
            raise DeclarationError(
                f"environment {environment.name!r} is promoted from one that is not declared before it",
                where="deployments/environments.py",
                fix="list environments in the order of promotion",
            )


_promotions_lead_somewhere()


def find_environment(name: str) -> Environment:
    """The declared environment of that name.

    Raises:
        ConfigurationError: none is called so.
    """
    for environment in ENVIRONMENTS:
        if environment.name == name:
            return environment
    known = ", ".join(environment.name for environment in ENVIRONMENTS)
    error = ConfigurationError(
        f"environment {name!r} is not declared",
        where="MEDALLION_ENVIRONMENT, or the command's argument",
        fix=f"use one of {known}, or declare it in deployments/environments.py",
    )
    error.exit_code = 2
    raise error


def current() -> Environment:
    """The environment this process works in, by MEDALLION_ENVIRONMENT.

    Raises:
        ConfigurationError: it names none that is declared.
    """
    return find_environment(settings().environment)
