"""Automations of a Prefect server: triggers, crash detection, restarts, alerts.

follow    the triggers of prefect.yaml: transform after the ingests, predict after transform
watch     a run that misses three heartbeats is crashed: its machine died, which nothing else would report; so is one
          that stays pending because its worker died
restart   a crashed run is scheduled again, on any worker, until its attempts are used up
give up   a run that crashed this often before it started, so that no attempt was counted, has failed
alert     if a channel is configured: failures, runs that are late, do not start or were dropped, dead workers, gold
          that is not built
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.deployment_triggers import DeploymentTriggerTypes
from prefect.events.schemas.events import ResourceSpecification
from pydantic import TypeAdapter

from deployments.environments import Environment
from deployments.prefect_yaml import DeclaredDeployment
from deployments.references import reference
from deployments.resource import Resource
from flows.declare.budget import STOPPED_AT_BUDGET

TAG = "medallion"
#: A run that starts this late is reported; the next report follows after the same time at the earliest.
LATE = timedelta(minutes=15)
#: Transform runs every six hours as a fallback, if it did not follow the ingests; it may take some time.
GOLD_WITHIN = timedelta(hours=8)
SEVERITIES = ("info", "warning", "critical")

#: A worker reports a dead process twice, 6 s apart: the second report would undo the restart after the first.
AFTER_A_CRASH = timedelta(seconds=20)

_TRIGGER: TypeAdapter[Any] = TypeAdapter(DeploymentTriggerTypes)
_RUN = {"prefect.resource.id": "prefect.flow-run.*"}
# Any of these shows that a run is alive, or that its process has ended regularly.
_SIGNS_OF_LIFE = {
    f"prefect.flow-run.{name}"
    for name in (
        "heartbeat", "Completed", STOPPED_AT_BUDGET, "Failed", "TimedOut", "Cancelling", "Cancelled", "Crashed",
        "Paused", "Suspended", "AwaitingRetry", "NotConfigured",
    )
}  # fmt: skip
# Any of these shows that a crashed run was handled.
_TAKEN_UP = {
    f"prefect.flow-run.{name}"
    for name in (
        "AwaitingRetry", "Scheduled", "Pending", "Running", "Cancelled", "Completed", STOPPED_AT_BUDGET, "Failed",
    )
}  # fmt: skip
# Any of these shows that a pending run has continued, or that it has ended.
_WENT_ON = {
    f"prefect.flow-run.{name}"
    for name in (
        "Running", "Scheduled", "AwaitingRetry", "AwaitingConcurrencySlot", "Late", "Paused", "Suspended",
        "Cancelling", "Cancelled", "Crashed", "Failed", "Completed", STOPPED_AT_BUDGET,
    )
}  # fmt: skip
#: Counts attempts that never started.
_GIVEN_UP_WITHIN = timedelta(days=1)
#: Prefect's message for a run whose deployment was active, with `collision_strategy: CANCEL_NEW`.
_DROPPED = "Deployment concurrency limit reached*"
_BODY = "{{ flow.name }} / {{ flow_run.name }}: {{ flow_run.state.name }}\n{{ flow_run|ui_url }}"


def follows(deployments: Iterable[DeclaredDeployment], *, enabled: bool) -> Iterator[Resource]:
    """The triggers of prefect.yaml as the automations that Prefect creates from them."""
    for deployment in deployments:
        for index, spec in enumerate(deployment.entry.get("triggers") or (), start=1):
            trigger = _TRIGGER.validate_python({"name": f"{deployment.name}__automation_{index}", **spec})
            trigger.set_deployment_id(reference("deployment", deployment.full_name))
            yield as_resource(trigger.as_automation().model_copy(update={"enabled": enabled and trigger.enabled}))


def watches(environment: Environment, deployments: Sequence[DeclaredDeployment]) -> Iterator[Resource]:
    """Silent runs are marked crashed, crashed runs restart: only for our deployments, whose heartbeats we have set."""
    # Ten seconds more, for a heartbeat in flight.
    silence = timedelta(seconds=environment.missed_heartbeats * environment.heartbeat_seconds + 10)
    yield as_resource(
        AutomationCore(
            name="medallion: a silent run has crashed",
            description="Its heartbeats are missing: its process or its machine died.",
            tags=[TAG],
            trigger=EventTrigger(
                posture=Posture.Proactive,
                after={"prefect.flow-run.heartbeat"},
                expect=_SIGNS_OF_LIFE,
                match=ResourceSpecification(_RUN),
                match_related=_of(deployments),
                for_each={"prefect.resource.id"},
                threshold=1,
                within=silence,
            ),
            actions=[ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat: the run's process died")],
        )
    )
    yield as_resource(
        AutomationCore(
            name="medallion: a run that stays pending has crashed",
            description="Its worker died, or its infrastructure did not start.",
            tags=[TAG],
            trigger=EventTrigger(
                posture=Posture.Proactive,
                after={"prefect.flow-run.Pending"},
                expect=_WENT_ON,
                match=ResourceSpecification(_RUN),
                match_related=_of(deployments),
                for_each={"prefect.resource.id"},
                threshold=1,
                within=timedelta(seconds=environment.pending_seconds),
            ),
            actions=[ChangeFlowRunState(state=StateType.CRASHED, message="pending for too long: its worker died")],
        )
    )
    if environment.attempts == 1:
        return
    yield as_resource(
        AutomationCore(
            name="medallion: a run that never began has failed",
            description=f"It crashed {environment.attempts} times before it started; there are no more attempts.",
            tags=[TAG],
            trigger=EventTrigger(
                expect={"prefect.flow-run.Crashed"},
                match=ResourceSpecification({**_RUN, "prefect.run-count": "0"}),
                match_related=_of(deployments),
                for_each={"prefect.resource.id"},
                threshold=environment.attempts,
                within=_GIVEN_UP_WITHIN,
            ),
            actions=[
                ChangeFlowRunState(
                    state=StateType.FAILED, message=f"it never started, in {environment.attempts} attempts"
                )
            ],
        )
    )
    yield as_resource(
        AutomationCore(
            name="medallion: a crashed run starts again",
            description=f"On any worker, {environment.attempts} attempts in total; loads resume where they stopped.",
            tags=[TAG],
            trigger=EventTrigger(
                posture=Posture.Proactive,
                after={"prefect.flow-run.Crashed"},
                expect=_TAKEN_UP,
                match=ResourceSpecification(
                    # A run that crashed before its start was counted 0 times: another automation gives up on it.
                    {**_RUN, "prefect.run-count": [str(count) for count in range(environment.attempts)]}
                ),
                match_related=_of(deployments),
                for_each={"prefect.resource.id"},
                threshold=1,
                within=AFTER_A_CRASH,
            ),
            actions=[
                ChangeFlowRunState(
                    state=StateType.SCHEDULED, name="AwaitingRetry", message="started again after a crash"
                )
            ],
        )
    )


def alerts(
    environment: Environment, deployments: Sequence[DeclaredDeployment], *, block: str, severity: str
) -> Iterator[Resource]:
    """Notifications through the block document of that name, of at least that severity."""
    told = SEVERITIES[SEVERITIES.index(severity) :]
    transform = [deployment for deployment in deployments if deployment.name == "transform"]
    ended = {"prefect.flow-run.Failed", "prefect.flow-run.TimedOut"}
    last = {"prefect.run-count": [str(environment.attempts), *(["0"] if environment.attempts == 1 else [])]}
    dropped = {"prefect.state-message": _DROPPED}
    triggers: list[tuple[str, str, EventTrigger, str]] = [
        ("critical", "a run failed", _reacts(ended, deployments), _BODY),
        (
            "critical",
            "a run crashed for the last time",
            _reacts({"prefect.flow-run.Crashed"}, deployments, last),
            _BODY,
        ),
        (
            "warning",
            "a run does not begin",
            _reacts({"prefect.flow-run.Crashed"}, deployments, {"prefect.run-count": "0"}),
            f"{_BODY}\nIts worker died, or its infrastructure did not start; the run is restarted.",
        ),
        (
            "warning",
            "a run was dropped",
            _reacts({"prefect.flow-run.Cancelled"}, deployments, dropped),
            f"{_BODY}\nAnother run of its deployment was active. Start it again if it was requested manually.",
        ),
        ("warning", "runs are late", _reacts({"prefect.flow-run.Late"}, deployments, within=LATE), _BODY),
        (
            "critical",
            "no worker takes runs",
            EventTrigger(
                expect={"prefect.work-pool.not-ready"},
                match=ResourceSpecification({"prefect.resource.id": "prefect.work-pool.*"}),
            ),
            "work pool {{ work_pool.name }} has no worker",
        ),
    ]
    if transform and environment.active:
        missing = EventTrigger(
            posture=Posture.Proactive,
            expect={"prefect.flow-run.Completed"},
            match=ResourceSpecification(_RUN),
            match_related=_of(transform),
            threshold=1,
            within=GOLD_WITHIN,
        )
        hours = int(GOLD_WITHIN.total_seconds()) // 3600
        triggers.append(("critical", "gold is not built", missing, f"no transform has completed for {hours} hours"))
    for level, what, trigger, body in triggers:
        if level in told:
            yield as_resource(
                AutomationCore(
                    name=f"medallion alert: {what}",
                    description=f"Severity {level}.",
                    tags=[TAG],
                    trigger=trigger,
                    actions=[
                        SendNotification(
                            block_document_id=reference("block", block),
                            subject=f"[{environment.name}] {level}: {what}",
                            body=body,
                        )
                    ],
                )
            )


def _reacts(
    expect: set[str],
    deployments: Sequence[DeclaredDeployment],
    match: Mapping[str, Any] | None = None,
    within: timedelta = timedelta(),
) -> EventTrigger:
    return EventTrigger(
        expect=expect,
        match=ResourceSpecification({**_RUN, **(match or {})}),
        match_related=_of(deployments),
        within=within,
    )


def _of(deployments: Iterable[DeclaredDeployment]) -> ResourceSpecification:
    return ResourceSpecification(
        {
            "prefect.resource.role": "deployment",
            "prefect.resource.id": [
                f"prefect.deployment.{reference('deployment', deployment.full_name)}" for deployment in deployments
            ],
        }
    )


def as_resource(automation: AutomationCore, *, id: str | None = None) -> Resource:
    """The automation in a canonical form for comparison: with defaults, and sorted sets."""
    document = automation.model_dump(mode="json", exclude={"name", "owner_resource", "id"})
    fields = {name: _ordered(value) for name, value in document.items()}
    return Resource("automation", automation.name, fields, switches=frozenset({"enabled"}), id=id)


def _ordered(value: Any) -> Any:
    """Lists of strings are sets: their order is irrelevant. Triggers and actions keep theirs."""
    if isinstance(value, dict):
        return {name: _ordered(part) for name, part in value.items()}
    if isinstance(value, list):
        parts = [_ordered(part) for part in value]
        return sorted(parts) if all(isinstance(part, str) for part in parts) else parts
    return value


def owner(resource: Resource) -> str | None:
    """The deployment that owns an automation in Prefect: `prefect deploy` replaces those it owns."""
    runs = [action for action in resource.fields["actions"] if action["type"] == "run-deployment"]
    return f"prefect.deployment.{runs[0]['deployment_id']}" if runs else None
