"""Rows of quarantine loaded again: which of them pass the checks of a load, and why the others stay.

Each row is assessed in SQL, by its document or its newest fix, and in this order: it has a document, its values fit
raw's columns, it breaks no rule, and raw has nothing newer. What passes is staged and published like any load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.declare import Rule
from flows.declare.mask import Mask
from flows.landing.drift import PREFIX
from flows.landing.table import LANDING_SCHEMA, Target, raw_columns
from flows.publish.identity import primary_key
from flows.quality.documents import Documents
from flows.quality.entries import resolve_alert
from flows.quality.open_rows import FIXED_BY_HAND, KEY_NOT_UNIQUE, REPLAYED
from flows.quality.rules import door_rules
from flows.state.schema_changes import dropped_columns
from flows.values.errors import DeclarationError
from flows.values.identifiers import qualified, quote_identifier, quote_literal
from flows.values.shape import METADATA_NAMES, Column, Shape, column_list

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Why a row stays in quarantine, if no rule says it.
MISFIT, TWICE, NEWER, DELETED, KEY_TAKEN = "value_fits_type", "twice", "newer", "deleted", "key_taken"
#: These are closed, since raw has what came later.
_OUTDATED = (NEWER, DELETED)
_FIELDS_AS_KNOWN = "fields_as_known"


@dataclass(frozen=True, slots=True)
class RowChecks:
    """What a load of the table checks of each row, as the kind of source knows it.

    `cursor` is the column that says which version of a row is newer; `cursor_required`: a row without it is refused.
    `masks`: what is loaded instead of values of a column.
    `has_records`: raw has each record of the source as a document, `payload`; `derived` is SQL over it for the text of
    each column that is made of it. `tombstone`: SQL over `payload` (without records, over a row's document), the row is
    deleted at the source. `known_fields_only`: records with other fields than
    those in ops.record_fields are refused.
    """

    rules: tuple[Rule, ...]
    cursor: str | None = None
    cursor_required: bool = False
    masks: Mapping[str, Mask] = field(default_factory=dict)
    has_records: bool = False
    derived: Mapping[str, str] = field(default_factory=dict)
    tombstone: str = "false"
    known_fields_only: bool = False


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which quarantined rows of a table are loaded again: all, those of a rule, or those of these ids."""

    ids: Sequence[int] | None = None
    rule: str | None = None

    @property
    def condition(self) -> str:
        """SQL over `quarantine.rows as q` and its newest fix `f`. A row fixed by hand is loaded again with a newer fix.

        One that was discarded has to be named.
        """
        again = f"q.resolution = '{FIXED_BY_HAND}' and f.fix_id > coalesce(q.fix_id, 0)"
        parts = ["q.withheld"]
        if self.ids is not None:
            parts.append(f"q.quarantine_id = any('{{{','.join(map(str, self.ids))}}}'::bigint[])")
            parts.append(f"(q.resolution is distinct from '{FIXED_BY_HAND}' or {again})")
        else:
            parts.append(f"(q.resolved_at is null or {again})")
        if self.rule is not None:
            parts.append(f"q.rule = {quote_literal(self.rule)}")
        return " and ".join(parts)


class Beside(Target):
    """The table's target with a landing table of its own: the usual one may have what an interrupted load resumes."""

    @property
    def landing_name(self) -> str:
        """`shop__baskets__r`."""
        return f"{super().landing_name}__r"

    @property
    def assessed(self) -> str:
        """The table of assessed rows."""
        return qualified(LANDING_SCHEMA, f"{super().landing_name}__j")


@dataclass(frozen=True, slots=True)
class Replay:
    """How rows of quarantine become rows of a raw table again."""

    target: Beside
    shape: Shape
    keys: tuple[str, ...]
    checks: RowChecks

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The checks of a load."""
        return door_rules(self.keys, self.checks.rules, self.checks.cursor if self.checks.cursor_required else None)

    @property
    def documents(self) -> Documents:
        """Rows of raw's type."""
        return Documents(self.target.raw, {column.name: column.raw_type for column in self.shape.columns})

    @property
    def key_types(self) -> dict[str, str]:
        """The key's columns and their types in raw."""
        return {key: column.raw_type for key in self.keys if (column := self.shape.column(key))}

    def record(self, payload: str, former: str) -> str:
        """SQL for the document of a record: its payload, and the columns made of it; the others are of `former`."""
        pairs = []
        for column in self.shape.columns:
            name, value = quote_literal(column.name), f"r.former -> {quote_literal(column.name)}"
            if column.name == "payload":
                value = "r.payload"
            elif (text := self.checks.derived.get(column.name)) is not None:
                kind = quote_literal(column.raw_type)
                value = f"case when pg_input_is_valid({text}, {kind}) then to_jsonb(({text})::{column.raw_type}) end"
            pairs.append(f"{name}, {value}")
        made = ", ".join(pairs)
        return f"(select jsonb_build_object({made}) from (select {payload} as payload, {former} as former) as r)"

    def _stored(self) -> str:
        """SQL over `q` for its document; null for a record that was stored as text, unless only its fields are odd."""
        if "text" in self.documents.columns:
            return "q.row_data"
        is_text = "q.row_data ? 'text' and (select count(*) from jsonb_object_keys(q.row_data)) = 1"
        as_record = "null::jsonb"
        if self.checks.has_records:
            text = "(q.row_data ->> 'text')"
            as_record = (
                f"case when q.rule = '{_FIELDS_AS_KNOWN}' and pg_input_is_valid({text}, 'jsonb') "
                f"then {self.record(f'{text}::jsonb', 'q.row_key')} end"
            )
        return f"case when {is_text} then {as_record} else q.row_data end"

    def assessed(self, chosen: Chosen) -> str:
        """SQL for the chosen rows: `quarantine_id`, `fix_id`, `rule`, `document`, `gone`; `verdict`, null for those to
        load."""
        table, documents, keys = self.target.name, self.documents, self.keys
        typed = "".join(f", p.{quote_identifier(key)} as k{place}" for place, key in enumerate(keys))
        cursor = f"p.{quote_identifier(self.checks.cursor)}" if self.checks.cursor else "null::int"
        record = "d.document -> 'payload'" if self.checks.has_records else "d.document"
        gone = f"coalesce((select {self.checks.tombstone} from (select {record} as payload) as r), false)"
        copies = later = "null::text"
        order = "1"
        if keys:
            pairs = ", ".join(f"{quote_literal(key)}, p.{quote_identifier(key)}" for key in keys)
            # A list of keys, and not a look at quarantine for each row: 100,000 rows are compared with it by hash.
            copies = (
                f"case when jsonb_build_object({pairs}) in (select q.row_key from quarantine.rows as q "
                f"where {_of(table.source, table.name)} and q.withheld and q.rule = '{KEY_NOT_UNIQUE}') "
                f"then '{KEY_NOT_UNIQUE}' end"
            )
            order = (
                f"row_number() over (partition by refused is null, {', '.join(f'k{n}' for n in range(len(keys)))} "
                "order by position desc nulls last, quarantine_id desc)"
            )
            later = self._later()
        return f"""
        with documents as materialized (
            select q.quarantine_id, q.rule, q.row_key, q.quarantined_at, q.resolved_at, f.fix_id,
                coalesce(f.row_data, {self._stored()}) as document
            from quarantine.rows as q left join lateral (
                select fix_id, row_data from quarantine.fixes as f
                where f.quarantine_id = q.quarantine_id order by fix_id desc limit 1
            ) as f on true
            where {_of(table.source, table.name)} and {chosen.condition}
        ), checked as materialized (
            select d.*, {gone} as gone, {cursor} as position{typed}, case
                when d.document is null then d.rule
                else coalesce(
                    '{PREFIX}' || {documents.unknown("d.document")},
                    case when not {documents.fits("d.document")}
                        then '{MISFIT}' || coalesce(':' || {documents.misfit("d.document")}, '') end,
                    '{PREFIX}' || {documents.changed("d.document", "p.*")},
                    {documents.broken("d.document", "p", self.rules)},
                    {self._unknown_fields()},
                    {copies}
                )
            end as refused
            from documents as d {documents.row("d.document", "p")}
        ), ordered as (
            select *, case when refused is null then {order} end as turn from checked
        )
        select quarantine_id, fix_id, rule, document, gone,
            coalesce(refused, case when turn > 1 and {bool(keys)} then '{TWICE}' end, {later}) as verdict
        from ordered as o
        """

    def _unknown_fields(self) -> str:
        if not self.checks.known_fields_only:
            return "null::text"
        source, name = quote_literal(self.target.source), quote_literal(self.target.table)
        table = f"f.source_system = {source} and f.table_name = {name}"
        kind = "jsonb_typeof(e.value)"
        kind = f"case {kind} when 'string' then 'text' when 'array' then 'list' else {kind} end"
        return (
            f"(select '{_FIELDS_AS_KNOWN}' from jsonb_each(d.document -> 'payload') as e "
            f"where exists (select from ops.record_fields as f where {table}) and not exists ("
            f"select from ops.record_fields as f where {table} and f.field = e.key "
            f"and (e.value = 'null' or f.kinds = '{{}}' or {kind} = any(f.kinds))) limit 1)"
        )

    def _later(self) -> str:
        """SQL over `o`: what raw has of the row's key that must stay."""
        same = " and ".join(f"r.{quote_identifier(key)} = o.k{place}" for place, key in enumerate(self.keys))
        known = " and ".join(f"o.row_key ->> {quote_literal(key)} is not null" for key in self.keys)
        newer = "r._extracted_at > o.quarantined_at"
        if self.checks.cursor:
            held = f"r.{quote_identifier(self.checks.cursor)}"
            newer = f"coalesce({held} > o.position, {newer})"
        return (
            f"(select case when r._deleted_at > o.quarantined_at then '{DELETED}' "
            f"when r._deleted_at is not null then null when {newer} then '{NEWER}' "
            f"when ({known}) is not true then '{KEY_TAKEN}' end "
            f"from {self.target.raw} as r where o.resolved_at is null and {same})"
        )


def _of(source: str, table: str) -> str:
    return f"q.source_system = {quote_literal(source)} and q.table_name = {quote_literal(table)}"


async def open_replay(
    warehouse: Connection[Record], target: Beside, declared_keys: tuple[str, ...], checks: RowChecks
) -> Replay:
    """How the table's rows are loaded again, by raw's columns of today.

    Raises:
        DeclarationError: raw has no such table.
    """
    columns = await raw_columns(warehouse, target)
    if columns is None:
        raise DeclarationError(
            "raw has no such table, so no row can be loaded into it",
            where=target.where,
            fix=f"`medallion run {target.where}` loads it",
        )
    gone = await dropped_columns(warehouse, target.source, target.table)
    kept = [name for name in columns if name not in METADATA_NAMES and name not in gone - set(declared_keys)]
    shape = Shape(tuple(Column(name, columns[name], quote_identifier(name)) for name in kept))
    # The source may decide the key.
    keys = declared_keys or await primary_key(warehouse, target)
    return Replay(target, shape, keys, checks)


async def stage(warehouse: Connection[Record], replay: Replay, chosen: Chosen) -> tuple[int, int]:
    """Assess the chosen rows, and stage those that pass; returns how many, and how many stay."""
    target, documents, names = replay.target, replay.documents, column_list([*replay.shape.names])
    await warehouse.execute(f"drop table if exists {target.assessed}")
    await warehouse.execute(f"create unlogged table {target.assessed} as {replay.assessed(chosen)}")
    await warehouse.execute(f"analyze {target.assessed}")
    status = await warehouse.execute(
        f"insert into {target.landing} ({names}, _deleted_at) "
        f"select {', '.join(documents.values('j.document', 'p'))}, case when j.gone then now() end "
        f"from {target.assessed} as j {documents.row('j.document', 'p')} "
        "where j.verdict is null order by j.quarantine_id"
    )
    assessed = await warehouse.fetchval(f"select count(*) from {target.assessed}")
    staged = int(status.split()[-1])
    return staged, assessed - staged


async def close(warehouse: Connection[Record], replay: Replay, by: str, batch_id: int) -> int:
    """Close what was loaded, and what raw has newer versions of; in the publishing transaction. Returns how many."""
    loaded = f"case when j.fix_id is null then '{REPLAYED}' else '{FIXED_BY_HAND}' end"
    outdated = f"j.verdict in ({', '.join(map(quote_literal, _OUTDATED))})"
    status = await warehouse.execute(
        "update quarantine.rows as q set resolved_at = clock_timestamp(), resolved_by = $1, seen_batch_id = $2, "
        f"resolution = case when j.verdict is null then {loaded} else 'superseded' end, "
        "fix_id = case when j.verdict is null then j.fix_id end, "
        "reason = coalesce((select f.reason from quarantine.fixes as f where f.fix_id = j.fix_id), q.reason) "
        f"from {replay.target.assessed} as j "
        f"where j.quarantine_id = q.quarantine_id and (j.verdict is null or {outdated})",
        by,
        batch_id,
    )
    await resolve_alert(warehouse, replay.target.source, replay.target.table)
    return int(status.split()[-1])
