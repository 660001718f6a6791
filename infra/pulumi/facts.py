"""Facts about resources of a recorded graph: containers, statements, parameters, addresses."""

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from infra.pulumi.graph import Graph, Node
from infra.pulumi.permissions import FORCED

#: What a wildcard may stand for, by the action: the shapes that `permissions.FORCED` gives the reasons of.
_SHAPES = {
    "*": "*",
    "task/<name>/*": "arn:aws:ecs:?*:?*:task/?*/*",
    "task-definition/<name>:*": "arn:aws:ecs:?*:?*:task-definition/?*:*",
    "log-group:<name>:*": "arn:aws:logs:?*:?*:log-group:?*:*",
    "<bucket>/<prefix>/*": "arn:aws:s3:::?*/?*/*",
}


def is_forced(action: str, resource: str) -> bool:
    """Whether AWS asks for this wildcard: `permissions.FORCED` says why."""
    for forced in FORCED:
        shape = _SHAPES.get(forced.resource)
        if shape is None or action not in forced.actions:
            continue
        # One wildcard, at the end: all before it is a name.
        if (shape == "*" and resource == "*") or (
            shape != "*" and resource.count("*") == 1 and resource.endswith("*") and fnmatchcase(resource, shape)
        ):
            return True
    return False


def containers(graph: Graph) -> Iterator[tuple[Node, dict[str, Any]]]:
    """Every container of every task definition, with the definition."""
    for node in graph.of("aws:ecs/taskDefinition:TaskDefinition"):
        for container in json.loads(node.inputs["containerDefinitions"]):
            yield node, container


def all_statements(node: Node) -> Iterator[dict[str, Any]]:
    """The statements of the policies that a resource carries."""
    for name in ("policy", "assumeRolePolicy"):
        text = node.inputs.get(name)
        if isinstance(text, str) and '"Statement"' in text:
            yield from statements(text)


def statements(document: str) -> list[dict[str, Any]]:
    """The statements of one policy's JSON."""
    found: list[dict[str, Any]] = json.loads(document)["Statement"]
    return found


def parameters(node: Node) -> dict[str, str]:
    """The parameters of a group of them, by name."""
    return {parameter["name"]: parameter["value"] for parameter in node.inputs.get("parameters") or []}


def first(facts: Any, name: str, field: str) -> Any:
    """A field of the first block of that name; None where there is none."""
    return (facts.get(name) or [{}])[0].get(field)


def as_list(value: Any) -> list[Any]:
    """IAM writes one thing without a list."""
    return value if isinstance(value, list) else [value]


def has_password(value: str) -> bool:
    """Whether it is an address with a password in it: scheme://user:password@host."""
    authority = value.partition("://")[2].partition("/")[0]
    return ":" in authority.rpartition("@")[0]
