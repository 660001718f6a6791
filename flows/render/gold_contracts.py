"""The contracts that guard gold, from the dbt properties files.

    dbt_project/models/gold/<model>.yml   columns, their types and the primary key
    soda/gold_checks/<table>.yml          by hand: what dbt does not say, such as row counts, ranges and freshness

A `not_null` outside the key adds no check: PostgreSQL enforces it when dbt builds the table, and a second scan would
find nothing. List `missing` in soda/gold_checks for a column that is to be checked all the same.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows.render.rendered_yaml import HEADER, dump
from flows.values.errors import DeclarationError
from flows.values.settings import PROJECT_ROOT

_MODELS = "dbt_project/models/gold"
_BY_HAND = "soda/gold_checks"
_RENDERED = "soda/gold"


@dataclass(frozen=True, slots=True)
class GoldTable:
    """A table of gold as its properties file declares it: one per model, or per version of a model."""

    name: str
    description: str
    columns: tuple[tuple[str, str], ...]
    """Names and data types."""
    key: tuple[str, ...]


def gold_contracts(root: Path) -> dict[Path, str]:
    """The texts of soda/gold/<table>.yml, one for each table of gold.

    Raises:
        DeclarationError: soda/gold_checks names a table or column that the properties files do not have, or cannot be
            read.
    """
    tables = {table.name: table for path in sorted((root / _MODELS).glob("*.yml")) for table in gold_tables(path)}
    by_hand = {path.stem: path for path in sorted((root / _BY_HAND).glob("*.yml"))}
    for name in sorted(set(by_hand) - set(tables)):
        raise DeclarationError(
            f"there is no model {name} in {_MODELS}",
            where=f"{_BY_HAND}/{name}.yml",
            fix="name the file after the table, or delete it together with the model",
        )
    return {
        root / _RENDERED / f"{name}.yml": _contract(table, _read(by_hand[name]) if name in by_hand else {})
        for name, table in tables.items()
    }


def write_gold_contract(name: str, root: Path = PROJECT_ROOT) -> Path:
    """Write the contract of one table, for a model that was just added. Returns its path."""
    path = root / _RENDERED / f"{name}.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(gold_contracts(root)[path], encoding="utf-8")
    return path


def gold_tables(properties: Path) -> list[GoldTable]:
    """The tables of one properties file; none if it declares no models, as those of metrics.

    A version is a table of its own, named by its alias or `<model>_v<version>`, with the columns it includes.
    """
    return [
        _table(model, version)
        for model in _read(properties).get("models", [])
        for version in model.get("versions") or [None]
    ]


def _table(model: dict[str, Any], version: dict[str, Any] | None) -> GoldTable:
    columns = {column["name"]: column for column in model.get("columns", [])}
    config: dict[str, Any] = model.get("config", {})
    name = model["name"]
    if version is not None:
        columns = _of_version(columns, version)
        config = version.get("config", {})
        name = f"{name}_v{version['v']}"
    constraints = [*model.get("constraints", []), *(version or {}).get("constraints", [])]
    keys = [tuple(constraint["columns"]) for constraint in constraints if constraint["type"] == "primary_key"]
    keys += [
        (column["name"],)
        for column in columns.values()
        for constraint in column.get("constraints", [])
        if constraint["type"] == "primary_key"
    ]
    description = (version or {}).get("description") or model.get("description", "")
    return GoldTable(
        name=config.get("alias", name),
        description=" ".join(description.split()),
        columns=tuple((column["name"], column.get("data_type", "")) for column in columns.values()),
        key=keys[0] if keys else (),
    )


def _of_version(columns: dict[str, Any], version: dict[str, Any]) -> dict[str, Any]:
    """All columns of the model, unless the version lists which it includes; its own columns are added or replaced."""
    listed = version.get("columns", [])
    included = next((entry for entry in listed if "include" in entry), {"include": "all"})
    wanted = list(columns) if included["include"] in ("all", "*") else included["include"]
    kept = {name: columns[name] for name in wanted if name not in included.get("exclude", [])}
    return kept | {column["name"]: column for column in listed if "name" in column}


def _contract(table: GoldTable, by_hand: dict[str, Any]) -> str:
    added: dict[str, list[Any]] = by_hand.get("columns") or {}
    unknown = [name for name in added if name not in dict(table.columns)]
    if unknown or set(by_hand) - {"columns", "checks"}:
        raise DeclarationError(
            f"{table.name} has no column {', '.join(unknown)}"
            if unknown
            else "only `columns` and `checks` belong here",
            where=f"{_BY_HAND}/{table.name}.yml",
            fix=f"choose among {', '.join(dict(table.columns))}" if unknown else "move the rest below one of them",
        )
    contract: dict[str, Any] = {
        # The database's name is a placeholder: the gate reads the one it is connected to.
        "dataset": f"warehouse/warehouse/gold/{table.name}",
    }
    if table.description:
        contract["description"] = table.description
    contract["columns"] = [_column(name, kind, table.key, added.get(name, [])) for name, kind in table.columns]
    contract["checks"] = [{"schema": None}, *(by_hand.get("checks") or [])]
    return HEADER + dump(contract)


def _column(name: str, data_type: str, key: tuple[str, ...], added: list[Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name}
    if data_type:
        # Soda compares the type's name, without length or precision.
        entry["data_type"] = re.sub(r"\(.*?\)", "", data_type)
    checks: list[Any] = [{"missing": None}] if name in key else []
    if key == (name,):
        checks.append({"duplicate": None})
    if checks or added:
        entry["checks"] = [*checks, *added]
    return entry


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise DeclarationError("it is not YAML", where=path.name, fix=str(error).replace("\n", " ")) from None
    if not isinstance(document, dict):
        raise DeclarationError("it is not a mapping", where=path.name, fix="begin with `columns:` or `checks:`")
    return document
