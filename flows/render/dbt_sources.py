"""dbt's sources: tables with their descriptions and freshness limits."""

from datetime import timedelta
from typing import Any

from flows.declare.promises import Limits, limits_of
from flows.declare.source import Loadable, Source
from flows.kinds.answers import Column
from flows.render.freshness import last_load
from flows.render.raw_columns import raw_columns
from flows.render.rendered_yaml import HEADER, dump


def dbt_sources(source: Source) -> str:
    """The text of dbt_project/models/staging/<source>/_sources.yml."""
    entry: dict[str, Any] = {"name": source.name}
    if source.description:
        entry["description"] = source.description
    entry["schema"] = source.raw_schema
    limits = limits_of(source)
    if limits is not None:
        entry["config"] = {"freshness": _freshness(limits)}
    entry["tables"] = [_table(source, table) for table in source.tables]
    return HEADER + dump({"version": 2, "sources": [entry]})


def _table(source: Source, table: Loadable) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": table.name}
    if table.description:
        entry["description"] = table.description
    limits = limits_of(source, table)
    if limits is not None:
        own = {} if limits == limits_of(source) else {"freshness": _freshness(limits)}
        entry["config"] = {"loaded_at_query": last_load(source.name, table.name)} | own
    entry["columns"] = [_column(column) for column in raw_columns(source, table)]
    return entry


def _freshness(limits: Limits) -> dict[str, Any]:
    return {"warn_after": _after(limits.warn), "error_after": _after(limits.stop)}


def _after(duration: timedelta) -> dict[str, Any]:
    """In hours, or minutes: dbt knows no seconds."""
    minutes = max(1, round(duration / timedelta(minutes=1)))
    if minutes % 60 == 0:
        return {"count": minutes // 60, "period": "hour"}
    return {"count": minutes, "period": "minute"}


def _column(column: Column) -> dict[str, str]:
    typed = {"data_type": column.data_type} if column.data_type else {}
    return {"name": column.name, "description": column.description} | typed
