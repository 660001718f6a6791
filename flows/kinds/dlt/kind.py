"""Sources of dlt: what a resource yields, with its state, compared by the count that the source gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.access import addresses
from flows.access.addresses import connect
from flows.kinds.answers import Column, Ends, EventTime, Planned, Words
from flows.kinds.dlt import DltSource, Resource
from flows.kinds.dlt.stage import Opened, carry_out, opened_resource, shape_of
from flows.kinds.kind import Kind
from flows.landing.table import Target, raw_columns
from flows.publish.counts import Totals, compare_counts
from flows.publish.replay import RowChecks
from flows.publish.run import Loaded, LoadRun
from flows.state.reconciliations import Reconciliation
from flows.values.checksum import Key
from flows.values.connection import ApiConnection
from flows.values.errors import DeclarationError
from flows.values.identifiers import quote_literal

if TYPE_CHECKING:
    from asyncpg import Connection, Record


@dataclass(slots=True)
class DltOrigin:
    """What the source's function is handed of ours. One resource is open at a time, until the next or the end."""

    connection: ApiConnection | None
    opened: AsyncExitStack


class Dlt(Kind[DltSource, Resource]):
    """Sources of dlt, iterated without its pipeline."""

    has_key = True
    heeds_limit = True
    at_budget = "refuses"  # where it can count, and reads everything; otherwise it checks afterwards
    plan_fails_at = "warehouse"  # the source's own errors say so themselves

    def address(self, source: DltSource) -> ApiConnection | None:
        """What the source's function is handed of our own; None if it asks for nothing."""
        if source.connection is None:
            return None
        found = addresses.look_up(source.name, source.connection)
        return ApiConnection(source.connection, found.url, found.key)

    @asynccontextmanager
    async def open(
        self, source: DltSource, address: ApiConnection | None, where: str, application: str = "medallion"
    ) -> AsyncIterator[DltOrigin]:
        """The source's function is called when a resource is planned: its state belongs to the resource."""
        async with AsyncExitStack() as opened:
            yield DltOrigin(address, opened)

    async def plan(
        self, warehouse: Connection[Record], origin: DltOrigin, source: DltSource, table: Resource
    ) -> Planned:
        """By the resource's hints, its state, and what raw has. No record is read."""
        target = Target(source.name, table.name, source.raw_schema)
        await origin.opened.aclose()
        opened, plan = await origin.opened.enter_async_context(
            opened_resource(warehouse, target, origin.connection, source, table)
        )
        return Planned(plan, opened)

    async def load(self, run: LoadRun[DltSource, Resource], planned: Planned) -> Loaded:
        """Stage and publish in one part, with the resource's state."""
        opened: Opened = planned.carry
        return await carry_out(run, opened, planned.plan)

    async def compare(self, ends: Ends[DltSource, Resource]) -> tuple[Reconciliation, Sequence[Key]]:
        """By the source's own count, if the declaration names a function that asks for it.

        Nothing can be repaired: a resource is not asked for single records. Records that came to the source since the
        last load look like missing ones, since only the resource knows which it would yield.
        """
        source, resource = ends.source, ends.table
        target = Target(source.name, resource.name, source.raw_schema)
        async with connect(ends.warehouse, side="warehouse") as warehouse:
            total, keys = None, resource.keys
            if resource.count is not None:
                async with opened_resource(warehouse, target, ends.address, source, resource) as (opened, _):
                    total, keys = await opened.reader.count(), opened.resource.keys
            raw = await raw_columns(warehouse, target) or {}
            totals = Totals(
                total,
                {key: raw[key] for key in keys if key in raw},
                newest=resource.on_duplicate == "newest",
                note="only counts: a dlt resource yields what is new, not what is there",
            )
            return await compare_counts(warehouse, target, totals), ()

    def refuse_backfill(self, source: DltSource, table: Resource, column: str | None) -> str:
        """Resources decide by their own state what they yield."""
        where = f"{source.name}.{table.name}"
        raise DeclarationError(
            f"{source.name} is a dlt source, whose resources decide by their own state what is read",
            where="flows/sources",
            fix=f"for a full reload, `medallion reload {where} --recreate` and `medallion run {where}`; "
            "for some days of it, declare a resource that yields those",
        )

    def row_checks(self, table: Resource) -> RowChecks:
        """Of records, the declared columns are made of the record; a key that the resource decides stays as it was."""
        made = {} if table.columns else {column.name: column.select for column in shape_of(table).columns[:-1]}
        gone = "false"
        if table.deleted is not None:
            gone = f"coalesce(payload -> {quote_literal(table.deleted)}, 'null') not in ('null', 'false')"
        return RowChecks(
            table.rules,
            table.cursor,
            cursor_required=table.cursor is not None,
            has_records=not table.columns,
            derived=made,
            tombstone=gone,
        )

    def columns(self, table: Resource) -> Sequence[Column]:
        """Key, cursor and record; with `columns` the types are those of the resource's tables, and a key that is not
        declared is not known here."""
        types = (None,) * len(table.keys) if table.columns else table.types_of(table.keys)
        own = [
            Column(name, "The record's key at the source.", kind) for name, kind in zip(table.keys, types, strict=True)
        ]
        if table.cursor is not None and table.cursor not in table.keys:
            kind = None if table.columns else table.cursor_type
            own.append(Column(table.cursor, "When the record last changed at the source.", kind))
        if not table.columns:
            own.append(Column("payload", "The record as the source gave it, whole.", "jsonb"))
        return own

    def event_time(self, table: Resource) -> EventTime | None:
        """The cursor's field."""
        return EventTime(table.cursor) if table.cursor is not None and table.cursor_is_time else None

    def describe(self, source: DltSource) -> str:
        """With the function that builds it."""
        return f"dlt source `{source.build}`"

    def words(self, table: Resource) -> Words:
        """What the declaration leaves open, the resource says."""
        says = "as the resource says"
        deletes = None
        if table.deleted is not None:
            deletes = f"marked by `{table.deleted}`"
        elif table.load is None:
            deletes = says
        return Words(
            key=None if table.keys else says, load=says if table.load is None else None, cursor=table.cursor or "",
            deletes=deletes,
        )  # fmt: skip
