"""New models that others build on: staging from a table of raw, a snapshot of a model, a seed from a CSV file.

stg_shop__returns --layer staging --from shop.returns
returns_snapshot --layer snapshot --from stg_shop__returns --by return_id
return_reasons --layer seed --from reasons.csv --by reason
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path

from flows.models.manifest import Relation
from flows.models.scaffold import quoted
from flows.values.errors import DeclarationError
from flows.values.identifiers import quote_identifier, require_plain

_AUDIT = {"_extracted_at": "extracted_at", "_batch_id": "batch_id"}
_LEFT_OUT = frozenset({"_source_system", "_deleted_at"})
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*\Z")
# Words that PostgreSQL reserves (its documentation, appendix C), as far as columns are called so.
_RESERVED = frozenset(
    ["all", "and", "any", "array", "as", "asc", "both", "case", "cast", "check", "collate", "column", "constraint",
     "create", "default", "desc", "distinct", "do", "else", "end", "except", "false", "fetch", "for", "foreign", "from",
     "grant", "group", "having", "in", "intersect", "into", "leading", "limit", "localtime", "not", "null", "offset",
     "on", "only", "or", "order", "primary", "references", "select", "some", "table", "then", "to", "trailing", "true",
     "union", "unique", "user", "using", "when", "where", "window", "with"]
)  # fmt: skip
_WHOLE = re.compile(r"-?[0-9]{1,18}\Z")


def staging(
    name: str,
    table: str,
    types: Mapping[str, str],
    fields: Mapping[str, Sequence[str]],
    declared: Relation | None,
    *,
    project: Path,
) -> dict[Path, str]:
    """The files of a staging model of `table`, such as `shop.returns`, from its columns in raw.

    `fields` are the top-level fields of records and the types of their values, `declared` is the table among dbt's
    sources; None if the last full build did not know it.

    Raises:
        DeclarationError: the name does not follow the table's; raw does not have the table.
    """  # fmt: skip
    source, _, of = table.partition(".")
    expected = f"stg_{source}__{of}"
    if name != expected:
        raise DeclarationError(
            f"a staging model is called by its source and table, here {expected}", where=f"model {name}",
            fix=f"run `medallion model new {expected} --layer staging --from {table}`",
        )  # fmt: skip
    if not types:
        raise DeclarationError(
            f"raw_{source} has no table {of}", where=f"model {name}", fix=f"load it first: `medallion run {source}`"
        )
    columns = {column: _named(column) for column in types if column not in _LEFT_OUT | {"payload"}}
    if "payload" in types:
        columns = {name: text for name, text in columns.items() if name not in _AUDIT} | _of_payload(fields, columns)
        columns |= {name: name for name in _AUDIT if name in types}
    selected = ",\n".join(
        f"        {text}" if text == _named(column) else f"        {text} as {_named(column)}"
        for column, text in columns.items()
    )
    alive = "\n    where _deleted_at is null" if "_deleted_at" in types else ""
    sql = (
        f"with source as (\n    select * from {{{{ source('{source}', '{of}') }}}}\n),\n\n"
        f"renamed as (\n    select\n{selected}\n    from source{alive}\n)\n\nselect * from renamed\n"
    )
    lines = ["models:", f"  - name: {name}", f"    description: {quoted(_grain(table, declared))}", "    columns:"]
    for column in columns:
        lines += [f"      - name: {column}", f"        description: {_described(table, column, declared)}"]
        if declared is not None and column in declared.personal:
            lines += ["        config:", "          tags: [personal]"]
    folder = project / "models/staging" / source
    return {folder / f"{name}.sql": sql, folder / f"{name}.yml": "\n".join(lines) + "\n"}


def _named(column: str) -> str:
    return column if _PLAIN.match(column) and column not in _RESERVED else quote_identifier(column)


def _of_payload(fields: Mapping[str, Sequence[str]], taken: Mapping[str, str]) -> dict[str, str]:
    """One column per field of the records: texts, or JSON where there is more in it."""
    found = {}
    for name, kinds in fields.items():
        column = re.sub(r"\W+", "_", name).lower()
        if column not in taken and _PLAIN.match(column):
            arrow = "->" if {"object", "array"} & set(kinds) else "->>"
            text = name.replace("'", "''")
            found[column] = f"payload {arrow} '{text}'"
    return found or {"payload": "payload"}


def _grain(table: str, declared: Relation | None) -> str:
    text = " ".join((declared.description if declared is not None else "").split())
    return text if text.startswith("One row per ") else f"One row per row of {table}."


def _described(table: str, column: str, declared: Relation | None) -> str:
    if column in _AUDIT:
        return f"'{{{{ doc(\"{_AUDIT[column]}\") }}}}'"
    known = (declared.columns.get(column) or {}) if declared is not None else {}
    return quoted(" ".join(str(known.get("description") or "").split()) or f"As in {table}.")


def snapshot(
    name: str, origin: Relation, types: Mapping[str, str], by: Sequence[str], *, project: Path
) -> dict[Path, str]:
    """The file of a snapshot: a version for each change of a column that is not of the key and not of the load.

    Raises:
        DeclarationError: the name does not end in _snapshot; there is no key; nothing could change.
    """
    where = f"snapshot {name}"
    require_plain(name, "snapshot", where)
    if not name.endswith("_snapshot"):
        raise DeclarationError("the name of a snapshot ends in _snapshot", where=where, fix=f"call it {name}_snapshot")
    key = tuple(by) or origin.key
    if not key or [column for column in key if column not in types]:
        raise DeclarationError(
            f"the key of {origin.name} is not known", where=where, fix=f"pass --by with columns of {', '.join(types)}"
        )
    checked = [column for column in types if column not in {*key, "updated_at"} and not column.startswith("_")]
    if not checked:
        raise DeclarationError(
            f"{origin.name} has no column beside its key", where=where, fix="a snapshot needs something that changes"
        )
    unique = key[0] if len(key) == 1 else f"[{', '.join(key)}]"
    lines = [
        "snapshots:", f"  - name: {name}", f"    relation: ref('{origin.name.partition('.')[0]}')",
        f"    description: One row per version of a row of {origin.name}. A removed row gets a last, deleted version.",
        "    config:", f"      unique_key: {unique}", "      strategy: check", "      check_cols:",
        *(f"        - {column}" for column in checked), "      hard_deletes: new_record",
        "      dbt_valid_to_current: \"timestamp with time zone '{{ var('end_of_time') }} 00:00:00+00'\"",
    ]  # fmt: skip
    return {project / "snapshots" / f"{name}.yml": "\n".join(lines) + "\n"}


def seed(name: str, file: Path, by: Sequence[str], *, project: Path) -> dict[Path, str]:
    """The files of a seed: a copy of the CSV file, and its types, descriptions to be written, and key.

    Raises:
        DeclarationError: the file cannot be read, has no header of plain names, or its key is empty or repeats.
    """
    where = f"seed {name}"
    require_plain(name, "seed", where)
    try:
        text = file.read_text(encoding="utf-8-sig")
        header, *rows = [row for row in csv.reader(text.splitlines(), strict=True) if row]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError):
        raise DeclarationError(
            f"{file} is no CSV file in UTF-8 with a header", where=where, fix="pass --from with such a file"
        ) from None
    odd = [column for column in header if not _PLAIN.match(column)]
    if odd or len(set(header)) != len(header) or any(len(row) != len(header) for row in rows):
        what = f"the names {', '.join(odd)} are not plain" if odd else "rows do not have the columns of the header"
        raise DeclarationError(what, where=str(file), fix="write lower-case names, one for each column")
    if not by or set(by) - set(header):
        raise DeclarationError("a seed needs a key", where=where, fix=f"pass --by with columns of {', '.join(header)}")
    keys = [tuple(row[header.index(column)] for column in by) for row in rows]
    if len(set(keys)) != len(keys) or any("" in key for key in keys):
        raise DeclarationError(
            f"{', '.join(by)} is empty or repeats", where=str(file), fix="choose another key, or fix the file"
        )
    types = [_type(row[index] for row in rows) for index in range(len(header))]
    lines = [
        "seeds:", f"  - name: {name}", f"    description: One row per {' and '.join(by)}.", "    config:",
        f"      indexes: [{{columns: [{', '.join(by)}], unique: true}}]",
        f"      column_types: {{{', '.join(f'{column}: {kind}' for column, kind in zip(header, types, strict=True))}}}",
        "    columns:",
    ]  # fmt: skip
    for column in header:
        lines += [f"      - name: {column}", f"        description: As in {file.name}."]
    folder = project / "seeds"
    return {folder / f"{name}.csv": text.rstrip("\n") + "\n", folder / f"{name}.yml": "\n".join(lines) + "\n"}


def _type(values: Iterable[str]) -> str:
    """The narrowest of integer, bigint, numeric, date and text; a number with leading zeros is a code, and a text."""
    texts = [value for value in values if value]
    if texts and all(_WHOLE.match(text) and text == str(int(text)) for text in texts):
        return "integer" if max(abs(int(text)) for text in texts) < 2**31 else "bigint"
    if texts and all(_is_decimal(text) for text in texts):
        return "numeric"
    return "date" if texts and all(_is_day(text) for text in texts) else "text"


def _is_decimal(text: str) -> bool:
    try:
        return re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", text) is not None and Decimal(text).is_finite()
    except InvalidOperation:
        return False


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
