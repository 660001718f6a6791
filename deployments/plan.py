"""The plan of a deployment: declared resources compared with those of the server. Pure: no requests, no changes.

A differing field is written, unless an operator changed it: a `switch` (a pause, a limit) whose declaration has not
changed since the last deployment was changed manually at the server, for a reason. It is kept and reported.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from deployments.resource import KINDS, Kind, Resource

Action = Literal["create", "update", "unchanged", "kept", "no longer declared", "remove", "left out"]
#: What changes the server.
WRITES: frozenset[Action] = frozenset({"create", "update", "remove"})
Key = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one thing: what the server will hold, and each differing field as (before, after).

    `kept` are switches that an operator turned and that stay so. `adopted`: it was there before any deployment of ours.
    """

    action: Action
    resource: Resource
    differs: Mapping[str, tuple[Any, Any]]
    kept: Mapping[str, tuple[Any, Any]]
    adopted: bool = False

    @property
    def writes(self) -> bool:
        """Whether applying it changes the server."""
        return self.action in WRITES


def plan(
    declared: Iterable[Resource],
    held: Mapping[Key, Resource],
    *,
    last: Mapping[Key, Resource],
    owned: frozenset[Key],
    remove: bool = False,
    take_back: bool = False,
    unsupported: frozenset[Kind] = frozenset(),
) -> list[Change]:
    """Every change, in the order in which it would be made.

    `held` is what the server holds of what is declared or owned; `last` is what the last deployment declared; `owned`
    is what deployments of ours created. `take_back` overrules operators; `remove` deletes what is owned and no longer
    declared; kinds that are `unsupported` by the server are left out.
    """
    wanted = {resource.key: resource for resource in declared}
    changes = []
    for key, resource in wanted.items():
        if resource.kind in unsupported:
            changes.append(Change("left out", resource, {}, {}))
        elif key not in held:
            changes.append(Change("create", resource, {}, {}))
        else:
            before = last.get(key) if not take_back else None
            changes.append(_compared(resource, held[key], before, adopted=key not in owned))
    changes.sort(key=lambda change: KINDS.index(change.resource.kind))
    gone = [held[key] for key in owned if key not in wanted and key in held]
    gone.sort(key=lambda resource: (-KINDS.index(resource.kind), resource.name))
    action: Action = "remove" if remove else "no longer declared"
    return [*changes, *(Change(action, resource, {}, {}) for resource in gone)]


def _compared(wanted: Resource, held: Resource, last: Resource | None, *, adopted: bool) -> Change:
    differs: dict[str, tuple[Any, Any]] = {}
    kept: dict[str, tuple[Any, Any]] = {}
    target = dict(wanted.fields)
    for name, value in wanted.fields.items():
        present = held.fields.get(name)
        if present == value:
            continue
        if name in wanted.switches and last is not None and last.fields.get(name) == value:
            kept[name] = (present, value)
            target[name] = present
        else:
            differs[name] = (present, value)
    # A schedule or an objective that is held and not declared any more goes with the next write.
    for name in set(held.fields) - set(wanted.fields):
        if name.startswith("schedule ") or wanted.kind == "objective":
            differs[name] = (held.fields[name], None)
    action: Action = "update" if differs else "kept" if kept else "unchanged"
    return Change(action, replace(wanted, fields=target, id=held.id), differs, kept, adopted)


def pending(changes: Iterable[Change]) -> list[Change]:
    """Those that change the server."""
    return [change for change in changes if change.writes]
