"""The hints of a dlt resource, and how they complete its declaration.

Declarations have precedence. If both together would lose or duplicate records, nothing is read: the error names the
contradiction and the fix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flows.declare.load import Append, Merge, Replace
from flows.kinds.dlt.declared import Resource
from flows.values.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class Said:
    """A resource's own hints. `cursor` is the path its incremental follows, `lagged` whether that reads records again.

    `moving_table`: its table's name depends on the record. `ranged`: it reads a fixed range, and has no cursor.
    `undecided`: its function accepts an incremental, and dlt knows only at the call whether it gets one.
    """

    keys: tuple[str, ...] = ()
    disposition: str = "append"
    strategy: str = ""
    deleted: str | None = None
    cursor: str | None = None
    lagged: bool = False
    ranged: bool = False
    moving_table: bool = False
    undecided: bool = False


def said_by(resource: Any) -> Said:
    """The hints of a `DltResource`. Hints that are functions of a record are unknown before there is one."""
    moving = bool(resource.has_dynamic_table_name)
    table: Mapping[str, Any] = {}
    if not (moving or resource.has_other_dynamic_hints):
        table = resource.compute_table_schema()
    columns = table.get("columns", {})
    incremental = incremental_of(resource)
    return Said(
        keys=tuple(name for name, column in columns.items() if column.get("primary_key")),
        disposition=str(table.get("write_disposition", "append")),
        strategy=str(table.get("x-merge-strategy", "")),
        deleted=next((name for name, column in columns.items() if column.get("hard_delete")), None),
        cursor=incremental.cursor_path if incremental is not None else None,
        lagged=bool(incremental is not None and incremental.lag),
        ranged=incremental is not None and incremental.end_value is not None,
        moving_table=moving,
        undecided=incremental is None and resource.incremental is not None,
    )


def incremental_of(resource: Any) -> Any:
    """The resource's incremental without dlt's wrappers; None if there is none, or none yet."""
    return getattr(resource.incremental, "incremental", resource.incremental)


def settled(declared: Resource, said: Said, where: str) -> Resource:
    """The resolved declaration: load, key and deletes.

    Raises:
        DeclarationError: declaration and resource contradict each other, or leave a choice that must not be guessed.
    """
    if said.moving_table:
        raise DeclarationError(
            "the resource sets table_name per record, and one resource is one table in raw",
            where=where,
            fix="remove table_name from the resource, and distinguish the records in silver by the payload; or "
            "declare one resource per table",
        )
    if declared.keys and said.keys and set(declared.keys) != set(said.keys):
        raise DeclarationError(
            f"the declared key is {', '.join(declared.keys)}, and the resource's primary key {', '.join(said.keys)}",
            where=where,
            fix="correct key in flows/sources, or the resource's primary_key: records are matched on it",
        )
    load = declared.load or _load_of(said, where)
    # Appended records need no key: two versions of one are two records of a log.
    keys = declared.keys or (() if isinstance(load, Append) else said.keys)
    if isinstance(declared.key_type, tuple) and len(declared.key_type) != len(keys):
        raise DeclarationError("key_type is declared without a key", where=where, fix='add key=("…", …)')
    deleted = declared.deleted or (said.deleted if isinstance(load, Merge) else None)
    result = replace(declared, load=load, key=keys, deleted=deleted)
    _refuse_contradictions(result, said, where)
    return result


def _load_of(said: Said, where: str) -> Replace | Merge | Append:
    if said.disposition == "merge" and said.strategy in {"", "delete-insert", "upsert"}:
        return Merge()
    if said.disposition == "merge" and said.strategy == "insert-only":
        return Append()
    if said.disposition == "replace":
        return Replace()
    if said.disposition == "append":
        return Append()
    kind = f"{said.disposition} by {said.strategy}" if said.strategy else said.disposition
    raise DeclarationError(
        f"the resource's write disposition is {kind}, which is not supported",
        where=where,
        fix="declare load=Merge() with a key; snapshots in dbt_project keep versions of records",
    )


def _refuse_contradictions(resource: Resource, said: Said, where: str) -> None:
    match resource.load:
        case Merge() if not resource.keys:
            raise DeclarationError(
                "a merge needs a key, because records are matched on it, and the resource has no primary key",
                where=where,
                fix='add key="…" in flows/sources',
            )
        case Replace() if said.cursor is not None and not said.ranged:
            raise DeclarationError(
                f"a replace deletes records that are not read, and the resource is incremental ({said.cursor})",
                where=where,
                fix="declare load=Merge() and a key, or remove the resource's incremental",
            )
        case Append() if not resource.keys and said.cursor is None and not said.undecided:
            raise DeclarationError(
                "an append needs a cursor or a key, because without them every run would append all records again",
                where=where,
                fix='declare load=Merge() or Append() with key="…", load=Replace(), or give the resource '
                "dlt.sources.incremental(…)",
            )
        case Append() if not resource.keys and said.lagged:
            raise DeclarationError(
                "an append with a lag reads records twice, and without a key it cannot deduplicate them",
                where=where,
                fix='declare key="…" or load=Merge()',
            )
        case _:
            pass
    if resource.cursor is not None and said.cursor is not None and resource.cursor != said.cursor.removeprefix("$."):
        raise DeclarationError(
            f"the declared cursor is {resource.cursor}, and the resource's cursor is {said.cursor}",
            where=where,
            fix="correct cursor in flows/sources, or omit it: raw then has no column for it",
        )
