"""The contract that guards a raw table before silver is built on it."""

from typing import Any

from flows.declare import Append
from flows.kinds.declared import Loadable, Source
from flows.render.freshness import freshness, last_load
from flows.render.raw_columns import Column, raw_columns
from flows.render.rendered_yaml import HEADER, dump


def raw_contract(source: Source, table: Loadable) -> str:
    """The text of soda/raw/<source>/<table>.yml.

    Schema: the columns that follow from the declaration; more columns may come, since sources grow. Keys: there and
    unique. Rules: the door's own, asked of what is already inside. Nothing here fails merely because nothing happened.
    """
    contract: dict[str, Any] = {
        # The database's name is a placeholder: the gate reads the one it is connected to.
        "dataset": f"warehouse/warehouse/{source.raw_schema}/{table.name}",
    }
    if table.description:
        contract["description"] = table.description
    contract["columns"] = [_column(column, table) for column in raw_columns(table)]
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
    # A log may well be empty in its first hour; a table of things may not.
    checks.append(
        {"row_count": {"threshold": {"level": "warn", "must_be_greater_than": 0}}}
        if table.load is None or isinstance(table.load, Append)
        else {"row_count": None}
    )
    limits = freshness(source)
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
                # Null counts as true at the door, as in a check constraint; `not (null)` selects nothing either.
                "expression": f"not ({rule.condition})",
            }
        }
        for rule in table.rules
    ]
    return checks
