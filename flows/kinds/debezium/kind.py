"""Change events of Debezium: the last change of each key, in the order of the topic's offsets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.access import addresses
from flows.access.addresses import SourceAddress, connect
from flows.kinds.answers import Column, Ends, Planned, Preview, Waiting, Words
from flows.kinds.debezium.declared import OFFSET, PARTITION, Debezium, EventTable
from flows.kinds.debezium.draft import draft_events
from flows.kinds.debezium.load import carry_out
from flows.kinds.debezium.look import look
from flows.kinds.debezium.plan import EventsPlan, plan_events
from flows.kinds.files.place import Place
from flows.kinds.files.places import place_of
from flows.kinds.kind import Kind
from flows.landing.table import Target
from flows.observe.openlineage import Dataset
from flows.publish.counts import Totals, compare_counts
from flows.publish.run import Loaded, LoadRun
from flows.state.reconciliations import Reconciliation
from flows.values.checksum import Key

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from asyncpg import Connection, Record

_NOT_COMPARED = "events say what changed, and not what the source holds; reconcile the database itself"


class DebeziumEvents(Kind[Debezium, EventTable]):
    """Change events in files."""

    has_key = True  # its block holds a URL, as that of an API

    def address(self, source: Debezium) -> SourceAddress:
        """The folder of the files."""
        return addresses.look_up(source.name, source.connection)

    def open(
        self, source: Debezium, address: SourceAddress, where: str, application: str = "medallion"
    ) -> AbstractAsyncContextManager[Place]:
        """The folder, which nothing is written to."""
        return super().open(source, place_of(address, where), where, application)

    async def plan(self, warehouse: Connection[Record], origin: Place, source: Debezium, table: EventTable) -> Planned:
        """By the files that are there, and what was read before."""
        planned = await plan_events(warehouse, origin, source, table)
        return Planned(planned.plan, planned)

    async def waiting(self, warehouse: Connection[Record], origin: Place, planned: Planned) -> Waiting:
        """Events are not counted before they are read."""
        carry: EventsPlan = planned.carry
        return Waiting(None if carry.pending else 0)

    async def load(self, run: LoadRun[Debezium, EventTable], planned: Planned) -> Loaded:
        """Read the new files, and publish what they changed."""
        return await carry_out(run, planned.carry)

    async def compare(self, ends: Ends[Debezium, EventTable]) -> tuple[Reconciliation, Sequence[Key]]:
        """Nothing can be compared; what raw and quarantine hold is counted."""
        source, table = ends.source, ends.table
        target = Target(source.name, table.name, source.raw_schema)
        kinds = {key: table.types.get(key, "text") for key in table.keys}
        async with connect(ends.warehouse, side="warehouse") as warehouse:
            return await compare_counts(warehouse, target, Totals(None, kinds, note=_NOT_COMPARED)), ()

    async def preview(self, ends: Ends[Debezium, EventTable], count: int) -> Preview:
        """The last changes of the newest file, decoded as a load would decode them."""
        return await asyncio.to_thread(look, place_of(ends.address, ends.where), ends.source, ends.table, count)

    async def draft(
        self, name: str, url: str, auth: str, parameter: str | None, key: str | None, user: str | None
    ) -> str:
        """From a file of events, read in full; `url` is its path."""
        return await asyncio.to_thread(draft_events, name, url)

    def columns(self, table: EventTable) -> Sequence[Column]:
        """The key, the declared columns, and where each row's last change is."""
        named = dict.fromkeys([*table.keys, *table.columns])
        types = table.types
        return [
            *(
                Column(
                    name,
                    "Key of the row at the source." if name in table.keys else "As it is at the source.",
                    types.get(name),
                    required=name in table.keys,
                )
                for name in named
            ),
            Column(PARTITION, "The topic's partition that has the row's last change.", "integer"),
            Column(OFFSET, "The offset of that change.", "bigint"),
        ]

    def describe(self, source: Debezium) -> str:
        """`change events of Debezium`."""
        return "change events of Debezium"

    def words(self, table: EventTable) -> Words:
        """Its topic instead of a name, and offsets instead of a cursor."""
        return Words(name=table.topic, load="changes of events", cursor="offsets", deletes="marked as deleted")

    def dataset(self, source: Debezium, table: EventTable) -> Dataset:
        """By OpenLineage's naming of files: `file` and the path, or `s3://bucket` and the key."""
        url = self.address(source).url.partition("?")[0].rstrip("/")
        if "://" not in url or url.startswith("file://"):
            return Dataset("file", f"{url.removeprefix('file://')}/{table.match}")
        scheme, _, rest = url.partition("://")
        host, _, path = rest.rpartition("@")[2].partition("/")
        return Dataset(f"{scheme}://{host}", "/".join(part for part in (path, table.match) if part))

    def made_of(self, table: EventTable, column: str) -> str | None:
        """Columns arrive under their own names."""
        return None if column.startswith("_") else column
