"""Tables of models: nodes of a build, first rows, private schemas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from flows.observe.look import grid

if TYPE_CHECKING:
    from flows.models.coverage import Gap, LayerCoverage
    from flows.models.dev import Built
    from flows.models.preview import Preview
    from flows.models.private_schemas import PrivateSchema
    from flows.models.project import BuiltNode

_STYLES = {"success": "green", "pass": "green", "no-op": "dim", "warn": "yellow", "skipped": "dim"}  # nosec B105 - colours
# Columns of a preview are cut to this many characters; columns that do not fit the width go into another table.
_CELL = 28


def build_parts(built: Built, width: int) -> list[Table | Text]:
    """`medallion dev build`: nodes with their status, then first rows, and what went wrong last, where it is seen."""
    if not built.nodes:
        return [Text("no model was edited since the last full build; name a model to build it anyway")]
    parts: list[Table | Text] = [nodes_table(built.nodes, f"Built as {built.prefix.rstrip('_')}")]
    for preview in built.previews:
        parts += preview_parts(preview, width)
    parts += advice(built)
    parts += errors(built.nodes)
    failed = sum(not node.ok for node in built.nodes)
    models = sum(node.kind in {"model", "seed", "snapshot"} for node in built.nodes)
    tests = sum(node.kind in {"test", "unit_test"} for node in built.nodes)
    verdict = f"{failed} of {len(built.nodes)} failed" if failed else "all passed"
    style = "bold red" if failed else "green"
    counted = f"; {models} built, {tests} tests, {built.seconds:.1f} s"
    return [*parts, Text.assemble((verdict, style), counted)]


def nodes_table(nodes: Iterable[BuiltNode], title: str) -> Table:
    """One line per node, in the order in which dbt ran them."""
    table = grid(title, ["", "what", "name", "became", "s"], ["s"])
    for node in nodes:
        good = node.ok
        became = Text(node.status, style=_STYLES.get(node.status, "bold red"))
        if node.failures and not good and node.kind == "test":
            became.append(f", {node.failures:,} rows", style="red")
        table.add_row(
            Text("✓" if good else "✗", style="green" if good else "bold red"),
            Text(node.kind.replace("_", " "), style="dim"),
            node.name,
            became,
            f"{node.seconds:.2f}",
        )
    return table


def errors(nodes: Iterable[BuiltNode]) -> list[Table | Text]:
    """What went wrong, each error once, with the nodes that it stopped."""
    names: dict[str, list[str]] = {}
    for node in nodes:
        detail = _detail(node)
        if detail and not node.ok:
            names.setdefault(detail, []).append(node.name)
    return [Text.assemble((f"✗ {', '.join(named)}: ", "bold red"), (detail, "red")) for detail, named in names.items()]


def advice(built: Built) -> list[Table | Text]:
    """Who reads removed columns, and where the query for duplicate keys is."""
    said: list[Table | Text] = []
    for gone in built.removed:
        read_by = f", which {', '.join(gone.readers)} is computed from" if gone.readers else ", which no model reads"
        style = "yellow" if gone.readers else "dim"
        said.append(Text(f"{gone.model} no longer has {gone.column}{read_by}", style=style))
    said += [
        Text(f"keys of {one.model} ({', '.join(one.key)}) repeat; this query shows them: {one.query}", style="yellow")
        for one in built.duplicates
    ]
    return said


def _detail(node: BuiltNode) -> str:
    if node.kind == "test" and node.status == "fail":
        return f"the failing rows are in {node.relation.replace(chr(34), '')}" if node.relation else ""
    return node.message if node.status in {"error", "fail"} else ""


def preview_parts(preview: Preview, width: int) -> list[Table | Text]:
    """The first rows; columns that do not fit the width go into a second table."""
    title = f"{preview.name}: {preview.count:,} rows"
    if not preview.rows:
        return [Text(title, style="bold")]
    parts: list[Table | Text] = []
    chosen: list[int] = []
    used = 0
    audit = [name for name, _ in preview.columns if name.startswith("_")]
    for index, (name, _) in enumerate(preview.columns):
        if name in audit:
            continue
        wanted = min(max([len(name), *(len(row[index] or "") for row in preview.rows)]), _CELL) + 3
        if chosen and used + wanted > width - 2:
            parts.append(_rows_table(preview, chosen, title if not parts else ""))
            chosen, used = [], 0
        chosen.append(index)
        used += wanted
    parts.append(_rows_table(preview, chosen, title if not parts else ""))
    if preview.withheld:
        listed = ", ".join(name for name, _ in preview.columns if name in preview.withheld)
        parts.append(Text(f"personal columns hidden: {listed} (--personal shows them)", style="dim"))
    if audit:
        parts.append(Text(f"not shown: {', '.join(audit)}", style="dim"))
    return parts


def _rows_table(preview: Preview, chosen: list[int], title: str) -> Table:
    numeric = ("integer", "bigint", "smallint", "numeric", "double precision", "real")
    table = Table(title=title or None, title_justify="left", title_style="bold", header_style="dim", border_style="dim")
    for index in chosen:
        name, kind = preview.columns[index]
        right = kind.startswith(numeric)
        table.add_column(name, justify="right" if right else "left", no_wrap=True, overflow="ellipsis", max_width=_CELL)
    for row in preview.rows:
        table.add_row(*(Text("∅", style="dim") if (value := row[index]) is None else Text(value) for index in chosen))
    return table


def problem_panel(problem: str) -> Panel:
    """Why dbt cannot parse the project."""
    return Panel(
        Text(problem), title="dbt cannot read the project", title_align="left", border_style="red", expand=False
    )


def private_schemas(schemas: Iterable[PrivateSchema]) -> Table:
    """`medallion dev list`."""
    table = grid("Your schemas", ["schema", "tables and views", "MB"], ["tables and views", "MB"])
    for schema in schemas:
        table.add_row(schema.name, str(schema.relations), f"{schema.bytes / 1e6:,.1f}")
    return table


def coverage_table(layers: Iterable[LayerCoverage]) -> Table:
    """`medallion model check`: what is described and tested, per layer."""
    columns = ["layer", "models", "described", "key tested", "tested", "unit tested", "columns", "described", "tested"]
    table = grid("Documentation and tests", columns, columns[1:])
    for layer in layers:
        table.add_row(
            layer.layer,
            str(layer.models),
            *(_share(count, layer.models) for count in (layer.described, layer.keyed, layer.tested, layer.unit_tested)),
            str(layer.columns),
            *(_share(count, layer.columns) for count in (layer.columns_described, layer.columns_tested)),
        )
    return table


def _share(count: int, of: int) -> str:
    return f"{count / of:.0%}" if of else ""


def gaps_table(gaps: Iterable[Gap]) -> Table:
    """Models that break a convention."""
    table = grid("Broken conventions", ["model", "what"])
    for gap in gaps:
        table.add_row(gap.model, gap.what)
    return table
