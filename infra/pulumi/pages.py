"""A recorded graph as a Markdown page, and its cost as another.

The pages are kept beside the program. A change of the program shows in them, resource by resource, before anything is
deployed; `python -m infra.pulumi.render --check` fails when they differ.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infra.pulumi import prices
from infra.pulumi.costs import USAGE, Line, estimate, total
from infra.pulumi.graph import ACCOUNT, Graph, Node

COMMAND = "python -m infra.pulumi.render"
#: Inputs that say nothing new: what the line begins with, or what every resource of the type has.
_SILENT = frozenset(
    {"name", "tags", "tagsAll", "description", "alarmDescription", "comment", "alarmActions", "okActions"}
)
#: Inputs that are documents: shown below the resource, a line a statement.
_DOCUMENTS = ("assumeRolePolicy", "policy", "eventPattern", "redrivePolicy", "containerDefinitions", "dashboardBody")
#: Components in the order of the program.
_ORDER = (
    "Keys", "Network", "Logs", "Images", "Lake", "Database", "Credentials", "Cluster", "Cache", "PrefectServer",
    "WorkPool", "Watch", "Roles", "Scaling", "Kubernetes", "Observing",
)  # fmt: skip


def graph_page(graph: Graph) -> str:
    """Every component with its resources, and of each what matters: no tags, no names twice, documents as sentences."""
    components = sorted((node for node in graph.nodes if node.component), key=_place)
    resources = [node for node in graph.nodes if not node.component and node.service != "providers"]
    lines = [
        f"# Stack {graph.stack}: {len(resources)} resources in {len(components)} components",
        "",
        f"Rendered by `{COMMAND}` from the program with a recording monitor: ids and ARNs are placeholders. What it",
        f"costs: [{graph.stack}_cost.md]({graph.stack}_cost.md).",
    ]
    for component in components:
        title = component.name.removeprefix(f"medallion-{graph.stack}").lstrip("-")
        lines += ["", f"## {component.kind}{f' {title}' if title else ''}", ""]
        for node in resources:
            if node.parent == f"{component.kind} {component.name}":
                lines += _resource(node)
    lines += ["", "## Outputs", ""]
    lines += [
        f"- {name}: {_value(value)}" for name, value in sorted(graph.outputs.items()) if name != "base_job_template"
    ]
    return "\n".join(lines) + "\n"


def cost_page(graph: Graph) -> str:
    """The estimate, the dearest first, with the usage it assumes."""
    lines = estimate(graph)
    budget = graph.settings["budget"]["monthly_usd"]
    usage = USAGE[graph.stack]
    page = [
        f"# Stack {graph.stack}: about {total(lines):,.0f} US dollars a month",
        "",
        f"Rendered by `{COMMAND}`. List prices of {prices.REGION} as of {prices.AS_OF}, entered by hand in",
        "[prices.py](../prices.py): no tax, no free tier, no savings plan. Services are counted at the copies that",
        f"they start with; autoscaling costs extra. The budget alarm is at {budget:,} US dollars.",
        "",
        "| what | quantity | unit | list price | per month |",
        "| --- | ---: | --- | ---: | ---: |",
        *(_cost_row(line) for line in lines),
        f"| **together** | | | | **{total(lines):,.2f}** |",
        "",
        "Monthly usage assumed in [costs.py](../costs.py), until the first bill has actual numbers:",
        f"{usage.flow_run_hours:,.0f} hours of flow runs, {usage.log_gb:,.0f} GB of logs,",
        f"{usage.nat_gb:,.0f} GB through gateways, {usage.endpoint_gb:,.0f} GB through endpoints,",
        f"{usage.insights_metrics} metrics of containers, and in the lake {usage.lake_gb:,.0f} GB in standard storage,",
        f"{usage.lake_infrequent_gb:,.0f} GB infrequently accessed, {usage.lake_archive_gb:,.0f} GB archived.",
    ]
    return "\n".join(page) + "\n"


def _cost_row(line: Line) -> str:
    return f"| {line.what} | {line.quantity:,.0f} | {line.unit} | {line.price:g} | {line.monthly:,.2f} |"


def _place(component: Node) -> tuple[int, str]:
    return _ORDER.index(component.kind), component.name


def _resource(node: Node) -> Iterator[str]:
    shown = [
        f"{name} {_value(value)}"
        for name, value in sorted(node.inputs.items())
        if name not in _SILENT and name not in _DOCUMENTS and value not in (None, "", [], {})
    ]
    kept = " · kept from deletion" if node.protect else ""
    kind = f"{node.service}.{node.kind}" if node.type.startswith("aws:") else node.kind
    yield f"- **{kind}** {node.name}{kept}" + (f": {'; '.join(shown)}" if shown else "")
    for name in _DOCUMENTS:
        document = node.inputs.get(name)
        if isinstance(document, str):
            yield from (f"  - {line}" for line in _document(name, json.loads(document)))


def _document(name: str, document: Any) -> Iterator[str]:
    match name:
        case "containerDefinitions":
            for container in document:
                yield from _container(container)
        case "dashboardBody":
            yield "shows " + ", ".join(widget["properties"]["title"] for widget in document["widgets"])
        case _ if "Statement" in document:
            yield from (_statement(statement) for statement in document["Statement"])
        case _:
            yield f"{name} {_value(document)}"


def _statement(statement: Mapping[str, Any]) -> str:
    principal = statement.get("Principal")
    who = "everybody" if principal == "*" else ", ".join(_flat(principal)) if principal else ""
    verb = {"Allow": "allows", "Deny": "denies"}[statement["Effect"]]
    parts = [verb, who, ", ".join(_list(statement["Action"]))]
    if "Resource" in statement:
        parts += ["on", ", ".join(map(_plain, _list(statement["Resource"])))]
    if "Condition" in statement:
        parts += ["when", _value(statement["Condition"])]
    return " ".join(part for part in parts if part)


def _container(container: Mapping[str, Any]) -> Iterator[str]:
    yield f"container {container['name']} of {_plain(container['image'])}: `{' '.join(container['command'])}`"
    for variable in container.get("environment") or []:
        yield f"{variable['name']} = {_plain(variable['value'])}"
    for secret in container.get("secrets") or []:
        yield f"{secret['name']} from {_plain(secret['valueFrom'])}"
    rest = {
        key: value
        for key, value in container.items()
        if key not in ("name", "image", "command", "environment", "secrets", "essential")
    }
    yield _value(rest)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(
            f"{key} {_value(item)}" for key, item in sorted(value.items()) if item not in (None, "", [], {})
        )
        return f"({inner})"
    if isinstance(value, str):
        return _plain(value)
    if isinstance(value, Sequence):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        f"{value:g}"
        if isinstance(value, float) and value < 1e6
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )


def _plain(text: str) -> str:
    """In one line, and no mark that Markdown would take for its own. ARNs lose the account, which is a stand-in."""
    text = re.sub(rf"arn:aws:([a-z0-9-]+):[a-z0-9-]*:(?:{ACCOUNT})?:", r"\1:", " ".join(text.split()))
    return text.replace("*", "\\*").replace("<", "\\<").replace("|", "\\|")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _flat(value: Any) -> list[str]:
    return (
        [str(item) for part in value.values() for item in _list(part)] if isinstance(value, Mapping) else _list(value)
    )
