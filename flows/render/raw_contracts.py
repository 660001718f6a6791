"""Soda contracts of raw tables, checked before silver is built."""

from typing import Any

from flows.declare import Append
from flows.declare.promises import limits_of
from flows.declare.source import Loadable, Source
from flows.kinds.answers import Column
from flows.render.freshness import last_load
from flows.render.raw_columns import raw_columns
from flows.render.rendered_yaml import HEADER, dump


def raw_contract(source: Source, table: Loadable) -> str:
    """The text of soda/raw/<source>/<table>.yml.

    Schema: the declared columns; additional columns are allowed. Keys: not null and unique. Rules: the row checks on
    load, applied to the rows in raw. Nothing fails merely because there were no changes.
    """
    contract: dict[str, Any] = {
        # The database's name is a placeholder: the gate uses the connected one.
        "dataset": f"warehouse/warehouse/{source.raw_schema}/{table.name}",
    }
    if table.description:
        contract["description"] = table.description
    contract["columns"] = [_column(column, table) for column in raw_columns(source, table)]
    contract["checks"] = _checks(source, table)
    return HEADER + dump(contract)


def _column(column: Column, table: Loadable) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": column.name}
    if column.data_type:
        entry["data_type"] = column.data_type
    checks: list[dict[str, Any]] = [{"missing": None}] if column.required else []
    if table.keys == (column.name,):
        checks.append({"duplicate": None})
    if checks:
        entry["checks"] = checks
    return entry


def _checks(source: Source, table: Loadable) -> list[dict[str, Any]]:
    checks: list[dict[str, Any]] = [{"schema": {"allow_extra_columns": True, "allow_other_column_order": True}}]
    # A log may be empty in its first hour; an entity table may not, unless it is declared.
    checks.append(
        {"row_count": {"threshold": {"level": "warn", "must_be_greater_than": 0}}}
        if table.may_be_empty or table.load is None or isinstance(table.load, Append)
        else {"row_count": None}
    )
    limits = limits_of(source, table)
    if limits is not None:
        age = "extract(epoch from now() - max(finished_at)) / 3600"
        checks.append(
            {
                "metric": {
                    "name": "Hours since the last load",
                    "qualifier": "freshness",
                    "query": last_load(source.name, table.name, age),
                    "threshold": {
                        "must_be_less_than": limits.stop_hours,
                        "additional": {"level": "warn", "must_be_less_than": limits.warn_hours},
                    },
                }
            }
        )
    if len(table.keys) > 1:
        checks.append({"duplicate": {"columns": list(table.keys)}})
    checks += [
        {
            "failed_rows": {
                "name": rule.name.replace("_", " "),
                "qualifier": rule.name,
                # Null counts as true in row checks, as in a check constraint; `not (null)` selects nothing either.
                "expression": f"not ({rule.condition})",
            }
        }
        for rule in table.rules
    ]
    return checks
