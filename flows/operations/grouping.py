"""Which alerts have one root cause: they are one incident, and one message.

Alerts of one cause belong together: twenty tables of a source that does not answer. What is late, or did not run,
because of something else that fires belongs to that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from flows.operations.alerts import Alert

#: Alerts that tell what follows from another: a table or model that is late, a run that could not.
CONSEQUENCES = frozenset(
    {"late", "deadline missed", "run failed", "run refused", "circuit open", "check failed", "check warns"}
)


@dataclass(slots=True)
class Group:
    """New alerts of one cause, and the incident they join; None for a new one."""

    incident_id: int | None
    alerts: list[Alert] = field(default_factory=list)


def group(
    new: Iterable[Alert], present: Mapping[int, Collection[Alert]], upstream: Callable[[str], Collection[str]]
) -> list[Group]:
    """Assign new alerts to incidents. `present` has the alerts of each open incident.

    `upstream` gives what a subject is built from: `gold.agg_daily_sales` → `shop.basket_items` and others.
    """
    groups = [Group(incident_id) for incident_id in sorted(present)]
    before = {id(each): list(present[each.incident_id or 0]) for each in groups}

    # By cause, because each of thousands of late tables would be compared with all others.
    of_cause: dict[str, Group] = {}
    for each in groups:
        for one in before[id(each)]:
            of_cause.setdefault(one.cause, each)

    def members(each: Group) -> list[Alert]:
        return [*before.get(id(each), ()), *each.alerts]

    # Causes first, so that what follows from them finds them.
    for alert in sorted(new, key=lambda each: (each.name in CONSEQUENCES, each.alert_id)):
        found = of_cause.get(alert.cause)
        if found is None and alert.name in CONSEQUENCES:
            behind = _behind(alert, upstream)
            found = next((each for each in groups if any(_is_in(one, behind) for one in members(each))), None)
        if found is None:
            found = Group(None)
            groups.append(found)
        found.alerts.append(alert)
        of_cause.setdefault(alert.cause, found)
    return [each for each in groups if each.alerts]


def together(groups: list[Group], most: int) -> list[Group]:
    """The groups, with all new incidents in one if there are more of them than that."""
    new = [each for each in groups if each.incident_id is None]
    if len(new) <= most:
        return groups
    one = Group(None, [alert for each in new for alert in each.alerts])
    return [*(each for each in groups if each.incident_id is not None), one]


def _behind(alert: Alert, upstream: Callable[[str], Collection[str]]) -> set[str]:
    """What may be the cause of an alert: its table, its source, what it is built from, and their sources."""
    # Checks of gate raw are about `raw_shop.baskets`.
    own = alert.subject.removeprefix("raw_")
    subjects = {own, *upstream(own)}
    sources = {subject.partition(".")[0] for subject in subjects if "." in subject}
    if alert.source_system is not None:
        sources.add(alert.source_system)
        if alert.table_name is None:
            subjects.add(f"{alert.source_system}.*")  # a run of a source: any of its tables
    return subjects | {f"source {source}" for source in sources}


def _is_in(alert: Alert, behind: set[str]) -> bool:
    if alert.subject in behind or f"{alert.source_system}.*" in behind:
        return True
    # That a source does not answer is a cause for all that is read from it, not only for the tables it was seen at.
    return alert.cause == f"{alert.source_system}: unavailable" and f"source {alert.source_system}" in behind
