"""The document of a quarantined row with values that a person sets: what a fix stores."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from flows.access.mask_key import mask_key
from flows.declare.mask import Hashed
from flows.publish.replay import Replay
from flows.quality.entries import Entry
from flows.values.errors import DataRefused, DeclarationError
from flows.values.shape import METADATA_NAMES

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_PAYLOAD = "payload"


@dataclass(slots=True)
class Editing:
    """One row being edited. Documents are JSON texts, which are put together by PostgreSQL: no number loses a digit."""

    warehouse: Connection[Record]
    replay: Replay
    entry: Entry

    @property
    def where(self) -> str:
        """The row, for messages."""
        return f"quarantined row {self.entry.number} of {self.entry.table}"

    async def edited(self, values: Mapping[str, str | None]) -> str:
        """The document with these values, in the caller's transaction. The row stays locked until its end.

        Raises:
            DeclarationError: a column does not exist, or is not for a person to set.
            DataRefused: a value is none of its column's type, or the record still cannot be stored.
        """
        row = await self.warehouse.fetchrow(
            "select q.row_data::text as original, q.row_key::text as row_key, (select f.row_data::text "
            "from quarantine.fixes as f where f.quarantine_id = q.quarantine_id order by fix_id desc limit 1) as fixed "
            "from quarantine.rows as q where q.quarantine_id = $1 for update",
            self.entry.number,
        )
        assert row is not None  # it was just found
        document, key = row["fixed"] or row["original"], row["row_key"] or "{}"
        present = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
        columns = self.replay.documents.columns
        for name in values:
            self._refuse(name, columns, present)
        is_text = set(present) == {"text"} and "text" not in columns
        if is_text:
            document = await self._readable(json.loads(document)["text"], key, values)
            present = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
        self._refuse_other_keys(values, present)
        for name, value in values.items():
            if not (is_text and name.startswith(f"{_PAYLOAD}.")):
                document = await self._set(document, name, value)
        if self.replay.checks.has_records:
            made = self.replay.record("$1::text::jsonb -> 'payload'", "$2::text::jsonb || $1::text::jsonb")
            document = await self.warehouse.fetchval(f"select {made}::text", document, key)
            await self._refuse_another_key(document, key)
        await self._refuse_misfit(document)
        return str(document)

    def _refuse(self, name: str, columns: Mapping[str, str], present: Mapping[str, Any]) -> None:
        column, _, path = name.partition(".")
        fix = f"set one of {', '.join(columns)}"
        if name in METADATA_NAMES:
            what = f"column {name} is written by each load"
        elif name in self.replay.checks.derived:
            what, fix = f"column {name} is made of the record", "set the field of the record: payload.…=…"
        elif name in columns or (path and columns.get(column) == "jsonb") or name in present:
            return
        else:
            what = f"raw has no column {name}"
            if near := difflib.get_close_matches(name, columns, 1):
                fix = f"set {near[0]}, or another of {', '.join(columns)}"
        raise DeclarationError(what, where=self.where, fix=fix)

    def _refuse_other_keys(self, values: Mapping[str, str | None], present: Mapping[str, Any]) -> None:
        """By its key, loads know the row again when the source sends a newer version."""
        for name in [name for name in self.replay.keys if name in values]:
            held = json.loads(bytes(present[name])) if name in present else None
            if held is None or str(held) != values[name]:
                raise self._of_key(name)

    async def _refuse_another_key(self, document: str, key: str) -> None:
        """A record must not take the place of another; one whose key could not be read gets the one that it has."""
        name = await self.warehouse.fetchval(
            "select min(k.name) from unnest($3::text[]) as k (name) where $2::text::jsonb ->> k.name is not null "
            "and $1::text::jsonb -> k.name is distinct from $2::text::jsonb -> k.name",
            document,
            key,
            list(self.replay.keys),
        )
        if name is not None:
            raise self._of_key(name)

    def _of_key(self, name: str) -> DeclarationError:
        return DeclarationError(
            f"column {name} belongs to the key, by which loads know the row again",
            where=self.where,
            fix="correct the key at the source, then load the table; or discard this row",
        )

    async def _readable(self, text: str, key: str, values: Mapping[str, str | None]) -> str:
        """The document of a row that was stored as text, with the fields of its record that are to be set."""
        try:
            fields = msgspec.json.decode(text.encode(), type=dict[str, msgspec.Raw])
        except msgspec.MsgspecError:
            fields = {}
        if not self.replay.checks.has_records:
            if not fields:
                raise DataRefused(
                    "the row was stored as a text of which no columns can be read",
                    where=self.where,
                    fix="correct it at the source, then load the table; or discard this row",
                )
            return await self._typed({name: _text(value) for name, value in fields.items()}, values)
        if _PAYLOAD in values:
            return key  # replaced as a whole
        for name, value in values.items():
            if name.startswith(f"{_PAYLOAD}."):
                fields[name.partition(".")[2]] = msgspec.Raw(_as_json(value, None).encode())
        record = msgspec.json.encode(fields).decode()
        if not fields or not await self.warehouse.fetchval("select pg_input_is_valid($1, 'jsonb')", record):
            raise DataRefused(
                "the record still cannot be stored: a field has a value that jsonb cannot hold, or its JSON is invalid",
                where=self.where,
                fix="set that field (payload.name=value), or the whole record: --set payload='{…}'",
            )
        return f'{{"payload": {record}}}'

    async def _typed(self, texts: Mapping[str, str | None], values: Mapping[str, str | None]) -> str:
        document: dict[str, Any] = {}
        for name, kind in self.replay.documents.columns.items():
            text = texts.get(name)
            if name in values or text is None:
                document[name] = None
            elif not await self.warehouse.fetchval("select pg_input_is_valid($1, $2)", text, kind):
                raise DataRefused(
                    f"the value of column {name} is not one of type {kind}",
                    where=self.where,
                    fix=f"set it as well: --set {name}=…, or --null {name}",
                )
            else:
                document[name] = msgspec.Raw(await self._value(text, kind))
        return msgspec.json.encode(document).decode()

    async def _value(self, text: str, kind: str) -> bytes:
        value = "$1::text" if kind == "json" else f"$1::text::{kind}"
        made: str = await self.warehouse.fetchval(f"select to_jsonb({value})::text", text)
        return made.encode()

    async def _set(self, document: str, name: str, value: str | None) -> str:
        columns = self.replay.documents.columns
        column, _, path = name.partition(".")
        if name not in columns and path and columns.get(column) == "jsonb":
            return await self._set_field(document, [column, *path.split(".")], value)
        made = b"null"
        if value is not None:
            if name not in columns:
                raise DeclarationError(
                    f"raw has no column {name}, so that its value would be lost",
                    where=self.where,
                    fix=f"--null {name} leaves it out",
                )
            kind, text = columns[name], self._masked(name, value)
            if not await self.warehouse.fetchval("select pg_input_is_valid($1, $2)", text, kind):
                raise DataRefused(
                    f"the value for column {name} is not one of type {kind}",
                    where=self.where,
                    fix=f"write it as PostgreSQL reads the type {kind}; --null {name} for null",
                )
            made = await self._value(text, kind)
        done: str = await self.warehouse.fetchval(
            "select ($1::text::jsonb || jsonb_build_object($2::text, $3::text::jsonb))::text",
            document,
            name,
            made.decode(),
        )
        return done

    def _masked(self, name: str, value: str) -> str:
        mask = self.replay.checks.masks.get(name)
        if mask is None:
            return value
        return mask_key().hash(value) if isinstance(mask, Hashed) else mask.of(value)

    async def _set_field(self, document: str, steps: list[str], value: str | None) -> str:
        held = await self.warehouse.fetchrow(
            "select jsonb_typeof($1::text::jsonb #> $2) as kind, jsonb_typeof($1::text::jsonb #> $3) as parent",
            document,
            steps,
            steps[:-1],
        )
        assert held is not None  # a select without from answers one row
        if held["kind"] is None and not (held["parent"] == "object" and await self._is_known(steps)):
            raise DeclarationError(
                f"the record has no field {'.'.join(steps[1:])}, and neither do others of the table",
                where=self.where,
                fix="check the name; `medallion quarantine show` lists the record's fields",
            )
        done: str = await self.warehouse.fetchval(
            "select jsonb_set($1::text::jsonb, $2, $3::text::jsonb)::text",
            document,
            steps,
            _as_json(value, held["kind"]),
        )
        return done

    async def _is_known(self, steps: list[str]) -> bool:
        """Whether other records have the field: a mistyped name must not become a new one."""
        target = self.replay.target
        return bool(
            await self.warehouse.fetchval(
                "select exists (select from ops.record_fields where source_system = $1 and table_name = $2 "
                f"and field = $3) or exists (select from {target.raw} as r where to_jsonb(r) #> $4 is not null)",
                target.source,
                target.table,
                steps[1],
                steps,
            )
        )

    async def _refuse_misfit(self, document: str) -> None:
        documents, given = self.replay.documents, "$1::text::jsonb"
        row = await self.warehouse.fetchrow(
            f"select {documents.fits(given)} as fits, {documents.misfit(given)} as name", document
        )
        assert row is not None  # a select without from answers one row
        if not row["fits"]:
            name = row["name"] or "(unknown)"
            raise DataRefused(
                f"the value of column {name} is not one of type {documents.columns.get(name, 'in raw')}",
                where=self.where,
                fix=f"set it as well: --set {name}=…, or --null {name}",
            )


def _text(value: msgspec.Raw) -> str | None:
    decoded = json.loads(bytes(value), parse_float=str, parse_int=str)
    if decoded is None or isinstance(decoded, str):
        return decoded
    return bytes(value).decode()


def _as_json(value: str | None, kind: str | None) -> str:
    """A field's value as JSON: a text stays a text, and otherwise 5 is a number and true a boolean."""
    if value is None:
        return "null"
    if kind != "string":
        try:
            json.loads(value)
        except ValueError:
            pass
        else:
            return value
    return json.dumps(value)
