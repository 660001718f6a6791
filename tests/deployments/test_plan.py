"""What a deployment would change, decided without a server."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from deployments.plan import Change, plan
from deployments.resource import Resource


def deployment(name: str = "f/d", fields: Mapping[str, Any] = MappingProxyType({}), version: str = "1") -> Resource:
    said = {"version": version, "schedule hourly": "5 * * * * UTC", "active hourly": True, **fields}
    return Resource("deployment", name, said, frozenset({"active hourly"}))


def limit(value: int) -> Resource:
    return Resource("limit", "warehouse", {"limit": value}, frozenset({"limit"}))


def only(changes: list[Change]) -> Change:
    (change,) = changes
    return change


def test_what_a_server_holds_already_is_left_alone() -> None:
    change = only(plan([limit(4)], {limit(4).key: limit(4)}, last={}, owned=frozenset()))
    assert (change.action, change.differs) == ("unchanged", {})


def test_a_field_that_differs_is_told_with_what_it_was_and_will_be() -> None:
    change = only(plan([limit(4)], {limit(9).key: limit(9)}, last={}, owned=frozenset()))
    assert (change.action, dict(change.differs)) == ("update", {"limit": (9, 4)})


def test_what_an_operator_turned_stays_and_is_told() -> None:
    """A schedule paused at night, for a reason: a deployment the next morning must not start it again."""
    paused = deployment(fields={"active hourly": False})
    wanted = deployment()
    change = only(plan([wanted], {wanted.key: paused}, last={wanted.key: wanted}, owned=frozenset()))
    assert (change.action, change.writes) == ("kept", False)
    assert dict(change.kept) == {"active hourly": (False, True)}


def test_what_an_operator_turned_stays_when_something_else_is_written() -> None:
    """The request that writes a new version writes the pause with it: it would else end there."""
    paused, before, wanted = deployment(fields={"active hourly": False}), deployment(), deployment(version="2")
    change = only(plan([wanted], {wanted.key: paused}, last={wanted.key: before}, owned=frozenset()))
    assert (change.action, dict(change.differs)) == ("update", {"version": ("1", "2")})
    assert change.resource.fields["active hourly"] is False


def test_a_declaration_that_changed_wins_over_an_operator() -> None:
    change = only(plan([limit(6)], {limit(9).key: limit(9)}, last={limit(4).key: limit(4)}, owned=frozenset()))
    assert dict(change.differs) == {"limit": (9, 6)}


def test_overruling_puts_back_what_was_turned_by_hand() -> None:
    last = {limit(4).key: limit(4)}
    change = only(plan([limit(4)], {limit(9).key: limit(9)}, last=last, owned=frozenset(), take_back=True))
    assert (change.action, change.resource.fields["limit"]) == ("update", 4)


def test_a_field_that_is_no_switch_is_corrected_whoever_changed_it() -> None:
    wanted, held = deployment(), deployment(version="by hand")
    change = only(plan([wanted], {wanted.key: held}, last={wanted.key: wanted}, owned=frozenset()))
    assert dict(change.differs) == {"version": ("by hand", "1")}


def test_a_schedule_that_is_no_longer_declared_goes() -> None:
    held = deployment(fields={"schedule nightly": "0 2 * * * UTC", "active nightly": True})
    change = only(plan([deployment()], {held.key: held}, last={}, owned=frozenset()))
    assert dict(change.differs) == {"schedule nightly": ("0 2 * * * UTC", None)}


def test_only_what_we_created_is_ever_removed() -> None:
    ours, theirs = deployment("f/ours"), deployment("f/theirs")
    held = {ours.key: ours, theirs.key: theirs}
    assert [
        (change.action, change.resource.name) for change in plan([], held, last=held, owned=frozenset({ours.key}))
    ] == [("no longer declared", "f/ours")]
    removed = plan([], held, last=held, owned=frozenset({ours.key}), remove=True)
    assert [(change.action, change.resource.name) for change in removed] == [("remove", "f/ours")]


def test_things_are_made_before_and_removed_after_what_names_them() -> None:
    pool, queue = Resource("work pool", "p", {}), Resource("work queue", "p/q", {})
    automation = Resource("automation", "a", {})
    made = plan([automation, deployment(), queue, pool], {}, last={}, owned=frozenset())
    assert [change.resource.kind for change in made] == ["work pool", "work queue", "deployment", "automation"]
    everything = {resource.key: resource for resource in (pool, queue, automation, deployment())}
    gone = plan([], everything, last={}, owned=frozenset(everything), remove=True)
    assert [change.resource.kind for change in gone] == ["automation", "deployment", "work queue", "work pool"]


def test_what_a_server_knows_nothing_of_is_left_out_and_told() -> None:
    objective = Resource("objective", "transform/transform", {"fast": 30})
    change = only(plan([objective], {}, last={}, owned=frozenset(), unsupported=frozenset({"objective"})))
    assert (change.action, change.writes) == ("left out", False)
