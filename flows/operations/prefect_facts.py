"""What the Prefect server says of our deployments, read once per round with few requests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from flows.operations.prefect_api import PrefectApi
from flows.values.errors import ConfigurationError
from flows.values.settings import PROJECT_ROOT

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
#: How long a crash, or a run that was dropped, is remembered.
REMEMBERED = timedelta(minutes=15)
#: A worker that missed two heartbeats is gone. Prefect itself waits for three, and looks every 15 s.
_HEARTBEATS = 2
_IN_FLIGHT = timedelta(seconds=5)
#: A deployment that is changed loses its planned runs. The scheduler looks for changed ones every 5 s; a busy one needs
#: longer.
_REPLANNED = timedelta(seconds=20)
#: What ended is asked for with an overlap: a run's end may be written a little later than the time it has.
_LATELY = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment; `active`: it has an active schedule, and is not paused. `at_once`: how many runs it may have."""

    id: str
    full_name: str
    active: bool
    pool: str
    source: str | None
    at_once: int = 1

    @property
    def name(self) -> str:
        """Without its flow's name."""
        return self.full_name.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class FlowRun:
    """A flow run of a deployment. `since`: when it came into its state. `attempts`: how often it began."""

    id: str
    deployment: Deployment
    type: str
    state: str
    message: str
    since: datetime
    expected: datetime
    attempts: int
    pool: str


@dataclass(frozen=True, slots=True)
class Pool:
    """A work pool; `polled`: a worker has sent a heartbeat lately, or it needs none."""

    name: str
    polled: bool
    paused: bool


@dataclass(frozen=True, slots=True)
class PrefectFacts:
    """What the server says in one round. `answered_at` is its clock.

    `due`: runs that should have begun. `begun`: pending and running ones. `planned`: ids of deployments with a next
    run, and of those that had one until moments ago. `ended`: the last run of each deployment that ended. `crashed`:
    runs that crashed lately and were started again, by deployment, and when.
    """

    answered_at: datetime
    deployments: Sequence[Deployment]
    due: Sequence[FlowRun]
    begun: Sequence[FlowRun]
    planned: frozenset[str]
    pools: Mapping[str, Pool]
    ended: Mapping[str, FlowRun]
    dropped: Sequence[FlowRun]
    crashed: Sequence[tuple[Deployment, datetime]]

    @property
    def active_sources(self) -> frozenset[str]:
        """The names of sources that are loaded by an active schedule."""
        return frozenset(each.source for each in self.deployments if each.active and each.source is not None)


@cache
def deployment_names(root: Path = PROJECT_ROOT) -> tuple[str, ...]:
    """The names of the deployments in prefect.yaml, without those of their flows.

    Raises:
        ConfigurationError: the file is missing or no YAML.
    """
    try:
        document = yaml.safe_load((root / "prefect.yaml").read_text(encoding="utf-8"))
        return tuple(str(entry["name"]) for entry in document["deployments"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        raise ConfigurationError(
            "prefect.yaml cannot be read", where=str(root), fix="run the watch in the project's folder"
        ) from None


@dataclass(slots=True)
class PrefectReader:
    """Reads the facts. Remembers what does not change, and the last run of each deployment that ended."""

    api: PrefectApi
    names: Sequence[str]
    _flows: dict[str, str] = field(default_factory=dict, init=False)
    _ended: dict[str, FlowRun] = field(default_factory=dict, init=False)
    _asked: set[str] = field(default_factory=set, init=False)
    _read_at: datetime | None = field(default=None, init=False)
    _unplanned: dict[str, datetime] = field(default_factory=dict, init=False)

    async def read(self, now: datetime) -> PrefectFacts:
        """What the server says now. Where it matters, its own clock counts instead of `now`.

        Raises:
            PrefectDown: it does not answer as a Prefect API of ours.
        """
        entries = await self.api.ask_all("/deployments/filter", {"deployments": {"name": {"any_": [*self.names]}}})
        now = self.api.answered_at or now
        if any(entry["flow_id"] not in self._flows for entry in entries):
            self._flows = {flow["id"]: flow["name"] for flow in await self.api.ask_all("/flows/filter", {})}
        known = {entry["id"]: self._deployment(entry) for entry in entries}
        due, begun, planned, pools, crashed, dropped = await asyncio.gather(
            self._due(known, now),
            self._runs(known, ["PENDING", "RUNNING"], {}),
            self._planned(known, now),
            self._pools(known, now),
            self._crashed(known, now),
            self._dropped(known, now),
        )
        await self._read_ended(known, now)
        ended = {id: run for id, run in self._ended.items() if id in known}
        planned |= self._just_unplanned(known, planned | {run.deployment.id for run in due}, now)
        return PrefectFacts(now, [*known.values()], due, begun, planned, pools, ended, dropped, crashed)

    def _deployment(self, entry: Mapping[str, Any]) -> Deployment:
        return Deployment(
            entry["id"],
            f"{self._flows.get(entry['flow_id'], '?')}/{entry['name']}",
            not entry["paused"] and any(each["active"] for each in entry["schedules"]),
            entry["work_pool_name"] or "",
            (entry.get("parameters") or {}).get("source"),
            int((entry.get("global_concurrency_limit") or {}).get("limit") or 1),
        )

    async def _runs(
        self, known: Mapping[str, Deployment], types: Sequence[str], more: Mapping[str, Any]
    ) -> list[FlowRun]:
        wanted = {
            "deployments": {"id": {"any_": [*known]}},
            "flow_runs": {"state": {"type": {"any_": [*types]}}, **more},
            "sort": "EXPECTED_START_TIME_ASC",
        }
        found = await self.api.ask_all("/flow_runs/filter", wanted) if known else []
        return [*_flow_runs(found, known)]

    async def _due(self, known: Mapping[str, Deployment], now: datetime) -> list[FlowRun]:
        # One that waits for a slot is scheduled again and again, each time half a minute ahead.
        soon = {"next_scheduled_start_time": {"before_": (now + timedelta(minutes=2)).isoformat()}}
        return [run for run in await self._runs(known, ["SCHEDULED"], soon) if run.expected <= now]

    async def _planned(self, known: Mapping[str, Deployment], now: datetime) -> frozenset[str]:
        later = {"next_scheduled_start_time": {"after_": now.isoformat()}}
        planned = {run.deployment.id for run in await self._runs(known, ["SCHEDULED"], later)}
        # One with a long interval may be beyond the first thousand.
        for id in [each.id for each in known.values() if each.active and each.id not in planned]:
            planned |= {run.deployment.id for run in await self._runs({id: known[id]}, ["SCHEDULED"], later)}
        return frozenset(planned)

    def _just_unplanned(
        self, known: Mapping[str, Deployment], planned: frozenset[str], now: datetime
    ) -> frozenset[str]:
        """Deployments that have had no next run for less than the scheduler needs to plan one."""
        missing = [each.id for each in known.values() if each.active and each.id not in planned]
        self._unplanned = {id: min(self._unplanned.get(id, now), now) for id in missing}
        return frozenset(id for id, since in self._unplanned.items() if now - since < _REPLANNED)

    async def _pools(self, known: Mapping[str, Deployment], now: datetime) -> dict[str, Pool]:
        names = {each.pool for each in known.values()}
        entries = [each for each in await self.api.ask_all("/work_pools/filter", {}) if each["name"] in names]
        polled = await asyncio.gather(*(self._polled(entry, now) for entry in entries))
        return {
            entry["name"]: Pool(entry["name"], lives, bool(entry["is_paused"]))
            for entry, lives in zip(entries, polled, strict=True)
        }

    async def _polled(self, pool: Mapping[str, Any], now: datetime) -> bool:
        if pool["type"].endswith((":push", ":managed")) or pool["type"] == "prefect-agent":
            return True  # the server starts these runs itself
        # Heartbeats carry the server's clock.
        moment = self.api.answered_at or now
        for worker in await self.api.ask_all(f"/work_pools/{pool['name']}/workers/filter", {}):
            silence = timedelta(seconds=_HEARTBEATS * (worker.get("heartbeat_interval_seconds") or 30))
            if moment - datetime.fromisoformat(worker["last_heartbeat_time"]) <= silence + _IN_FLIGHT:
                return True
        return False

    async def _read_ended(self, known: Mapping[str, Deployment], now: datetime) -> None:
        """The last run that ended, for each deployment: all are asked for once, then what ended since."""
        # A run that crashed and was started again has not ended.
        if bad := [run.id for run in self._ended.values() if run.type != "COMPLETED"]:
            found = await self.api.ask_all("/flow_runs/filter", {"flow_runs": {"id": {"any_": bad}}})
            still = {entry["id"] for entry in found if entry["state_type"] in ENDED}
            for id in [id for id, run in self._ended.items() if run.id in bad and run.id not in still]:
                del self._ended[id]
                self._asked.discard(id)
        for id in [id for id in known if id not in self._asked]:
            last = {"deployments": {"id": {"any_": [id]}}, "sort": "END_TIME_DESC", "limit": 1, "offset": 0}
            wanted = {**last, "flow_runs": {"state": {"type": {"any_": [*ENDED]}}}}
            self._keep([*_flow_runs(await self.api.ask("/flow_runs/filter", wanted), known)])
            self._asked.add(id)
        since = min(self._read_at or now, now) - _LATELY
        self._keep(await self._runs(known, ENDED, {"end_time": {"after_": since.isoformat()}}))
        self._read_at = now

    def _keep(self, runs: Sequence[FlowRun]) -> None:
        for run in runs:
            former = self._ended.get(run.deployment.id)
            if former is None or former.since <= run.since:
                self._ended[run.deployment.id] = run

    async def _dropped(self, known: Mapping[str, Deployment], now: datetime) -> list[FlowRun]:
        lately = {"end_time": {"after_": (now - REMEMBERED).isoformat()}}
        found = await self._runs(known, ["CANCELLED"], lately)
        return [run for run in found if run.message.startswith("Deployment concurrency limit reached")]

    async def _crashed(self, known: Mapping[str, Deployment], now: datetime) -> list[tuple[Deployment, datetime]]:
        wanted = {
            "filter": {
                "occurred": {"since": (now - REMEMBERED).isoformat(), "until": now.isoformat()},
                "event": {"name": ["prefect.flow-run.Crashed"]},
                "order": "DESC",
            },
            "limit": 50,
        }
        events = (await self.api.ask("/events/filter", wanted))["events"]
        again = await self._started_again([_run_of(event) for event in events])
        found = []
        for event in events:
            for related in event["related"]:
                id = related["prefect.resource.id"].removeprefix("prefect.deployment.")
                if id in known and _run_of(event) in again:
                    found.append((known[id], datetime.fromisoformat(event["occurred"])))
        return found

    async def _started_again(self, runs: Sequence[str]) -> frozenset[str]:
        """Those of the runs that are not crashed any more. Without attempts that are left, a run stays crashed."""
        if not runs:
            return frozenset()
        wanted = {"flow_runs": {"id": {"any_": [*dict.fromkeys(runs)]}}}
        found = await self.api.ask_all("/flow_runs/filter", wanted)
        return frozenset(entry["id"] for entry in found if entry["state_type"] != "CRASHED")


def _run_of(event: Mapping[str, Any]) -> str:
    return str(event["resource"]["prefect.resource.id"]).removeprefix("prefect.flow-run.")


def _flow_runs(entries: Sequence[Mapping[str, Any]], known: Mapping[str, Deployment]) -> Iterator[FlowRun]:
    for entry in entries:
        deployment, state = known.get(entry["deployment_id"]), entry["state"]
        if deployment is None or state is None:
            continue
        yield FlowRun(
            entry["id"],
            deployment,
            state["type"],
            state["name"],
            state.get("message") or "",
            datetime.fromisoformat(state["timestamp"]).astimezone(UTC),
            datetime.fromisoformat(_expected(entry, state)).astimezone(UTC),
            int(entry["run_count"]),
            entry["work_pool_name"] or deployment.pool,
        )


def _expected(entry: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """When a run was to begin: one that is to be tried again has a later time of its own."""
    again = None if state["name"] == "AwaitingConcurrencySlot" else entry.get("next_scheduled_start_time")
    return str(again or entry["expected_start_time"] or state["timestamp"])
