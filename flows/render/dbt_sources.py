"""dbt's sources: tables with their descriptions and freshness limits."""

from typing import Any

from flows.declare.source import Loadable, Source
from flows.kinds.kind import Column
from flows.render.freshness import freshness, last_load
from flows.render.raw_columns import raw_columns
from flows.render.rendered_yaml import HEADER, dump


def dbt_sources(source: Source) -> str:
    """The text of dbt_project/models/staging/<source>/_sources.yml."""
    entry: dict[str, Any] = {"name": source.name}
    if source.description:
        entry["description"] = source.description
    entry["schema"] = source.raw_schema
    limits = freshness(source)
    if limits is not None:
        entry["config"] = {
            "freshness": {
                "warn_after": {"count": limits.warn_hours, "period": "hour"},
                "error_after": {"count": limits.stop_hours, "period": "hour"},
            }
        }
    entry["tables"] = [_table(source, table) for table in source.tables]
    return HEADER + dump({"version": 2, "sources": [entry]})


def _table(source: Source, table: Loadable) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": table.name}
    if table.description:
        entry["description"] = table.description
    if source.schedule is not None:
        entry["config"] = {"loaded_at_query": last_load(source.name, table.name)}
    entry["columns"] = [_column(column) for column in raw_columns(source, table)]
    return entry


def _column(column: Column) -> dict[str, str]:
    typed = {"data_type": column.data_type} if column.data_type else {}
    return {"name": column.name, "description": column.description} | typed
