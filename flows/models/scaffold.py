"""A new model: SQL and properties file, and for gold the checks of its contract, that build and follow the conventions.

    agg_store_sales --layer gold --from fct_basket_lines --by store_id
        one row per store_id, with sums of the amounts
    loyal_household --layer silver --from household
        the columns of household, to be reduced

Columns, types and descriptions come from the model that it reads, as of the last full build.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flows.models.manifest import Manifest, Relation
from flows.models.project import DBT_PROJECT
from flows.values.errors import DeclarationError
from flows.values.identifiers import require_plain
from flows.values.settings import PROJECT_ROOT

Layer = Literal["silver", "gold"]
_AMOUNTS = ("numeric", "integer", "bigint", "smallint", "double precision")
_SUMMED = {"numeric": "numeric(16,2)", "double precision": "double precision"}


@dataclass(frozen=True)
class Column:
    """One column of the new model: its SQL, type, description, and whether it may be null."""

    name: str
    expression: str
    data_type: str
    description: str
    required: bool = False


@dataclass(frozen=True)
class NewModel:
    """What is asked for: a name, its layer, and the columns `by` which amounts are summed, if any."""

    name: str
    layer: Layer
    by: Sequence[str] = ()


def scaffold(
    new: NewModel,
    origin: Relation,
    types: Mapping[str, str],
    *,
    personal: Collection[str],
    known: Manifest,
    project: Path = DBT_PROJECT,
    checks: Path = PROJECT_ROOT / "soda/gold_checks",
) -> dict[Path, str]:
    """The files of a new model with their texts; nothing is written. Personal columns are not added to gold.

    Raises:
        DeclarationError: the name is taken or invalid; a column of `by` does not exist; there is no key.
    """
    name, layer, by = new.name, new.layer, new.by
    where = f"model {name}"
    require_plain(name, "model", where)
    if any(relation.name == name for relation in known.relations.values()):
        raise DeclarationError("a model of this name already exists", where=where, fix="choose another name")
    if origin.kind == "source":
        raise DeclarationError(
            "only staging models read sources", where=where, fix="name its staging model, stg_<source>__<table>"
        )
    key = tuple(by) or origin.key
    unknown = [column for column in key if column not in types]
    if unknown or not key:
        raise DeclarationError(
            f"{origin.name} has no column {', '.join(unknown)}" if key else f"no key of {origin.name} is tested",
            where=where,
            fix=f"pass --by with columns of {', '.join(types)}",
        )
    columns = _grouped(origin, types, key) if by else _as_they_are(origin, types, key)
    if layer == "gold":
        columns = [column for column in columns if column.name not in personal]
    folder = project / "models" / layer
    files = {
        folder / f"{name}.sql": _sql(origin, columns, by),
        folder / f"{name}.yml": _yml(name, layer, origin, columns, key, personal),
    }
    if layer == "gold":
        files[checks / f"{name}.yml"] = _checks(key)
    return files


def _as_they_are(origin: Relation, types: Mapping[str, str], key: Sequence[str]) -> list[Column]:
    return [
        Column(_carried(name), name, kind, _description(origin, name), required=name in key)
        for name, kind in types.items()
    ]


def _carried(name: str) -> str:
    """What a column of staging is called from silver on: there `_batch_id` is `_loaded_batch_id`."""
    return "_loaded_batch_id" if name == "_batch_id" else name


def _grouped(origin: Relation, types: Mapping[str, str], by: Sequence[str]) -> list[Column]:
    columns = [Column(name, name, types[name], _description(origin, name), required=True) for name in by]
    columns.append(Column("rows_held", "count(*)::integer", "integer", f"Rows of {origin.name}.", required=True))
    for name, kind in types.items():
        names_something = name in by or name.startswith("_") or name.endswith(("_id", "_key", "_rank", "_number"))
        if names_something or not kind.startswith(_AMOUNTS):
            continue
        summed = next((sum_type for prefix, sum_type in _SUMMED.items() if kind.startswith(prefix)), "bigint")
        spelt = summed.replace(",", ", ")
        columns.append(Column(name, f"sum({name})::{spelt}", summed, f"In total: {_description(origin, name)}"))
    for name in ("_extracted_at", "_loaded_batch_id", "_batch_id"):
        if name in types:
            columns.append(Column(_carried(name), f"max({name})", types[name], _description(origin, name)))
    return columns


def _description(origin: Relation, column: str) -> str:
    text = str((origin.columns.get(column) or {}).get("description") or "").strip()
    return " ".join(text.split()) or f"As in {origin.name}."


def _sql(origin: Relation, columns: Sequence[Column], by: Sequence[str]) -> str:
    source = origin.name.partition(".")[0]
    selected = ",\n".join(
        f"    {column.name}" if column.expression == column.name else f"    {column.expression} as {column.name}"
        for column in columns
    )
    grouped = f"group by {', '.join(by)}\n" if by else ""
    # A generic name; the analyst can choose a better one.
    held = source.removeprefix("fct_").removeprefix("dim_").removeprefix("agg_")
    read = f"with {held} as (\n    select * from {{{{ ref('{source}') }}}}\n)"
    return f"{read}\n\nselect\n{selected}\nfrom {held}\n{grouped}"


def _yml(
    name: str, layer: Layer, origin: Relation, columns: Sequence[Column], key: Sequence[str], personal: Collection[str]
) -> str:
    grain = f"One row per {' and '.join(key)} of {origin.name}."
    lines = ["models:", f"  - name: {name}", f"    description: {quoted(grain)}"]
    one = len(key) == 1
    if layer == "silver":
        lines += ["    data_tests:", "      - keys_hold:", f"          name: {name}_keys_hold", "          arguments:",
                  f"            columns: [{', '.join(key)}]"]  # fmt: skip
    elif not one:
        lines += ["    constraints:", "      - type: primary_key", f"        columns: [{', '.join(key)}]"]
    lines.append("    columns:")
    for column in columns:
        lines.append(f"      - name: {column.name}")
        if layer == "gold":
            lines.append(f"        data_type: {column.data_type}")
        lines.append(f"        description: {quoted(column.description)}")
        if column.name in personal:
            lines += ["        config:", "          tags: [personal]"]
        if layer == "gold" and column.required:
            lines += ["        constraints:", "          - type: not_null"]
            lines += ["          - type: primary_key"] if one and column.name in key else []
    return "\n".join(lines) + "\n"


def _checks(key: Sequence[str]) -> str:
    """What the contract checks beyond the properties file, from which the rest of it is rendered."""
    lines = ["checks:", "  - row_count:"]
    if len(key) > 1:
        lines += ["  - duplicate:", f"      columns: [{', '.join(key)}]"]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """A YAML scalar: dbt expressions and colons need quotes."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'" if any(mark in text for mark in ":#{}[]'\"`,&*!|>%@") else text
