"""File drops: each content of a file is loaded exactly once, by its hash."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from flows.access import addresses
from flows.access.addresses import SourceAddress, connect
from flows.declare import Hashed, Replace
from flows.kinds.answers import Column, Ends, Planned, Preview, Waiting, Words
from flows.kinds.files.declared import Files
from flows.kinds.files.draft import draft_files
from flows.kinds.files.load import carry_out
from flows.kinds.files.look import look
from flows.kinds.files.place import Place
from flows.kinds.files.places import place_of
from flows.kinds.files.plan import FilesPlan, plan_files
from flows.kinds.files.release import Archive, Leave
from flows.kinds.files.released import release_files
from flows.kinds.files.table import FILE, LINE, FileTable
from flows.kinds.kind import Kind
from flows.landing.table import Target
from flows.observe.openlineage import Dataset
from flows.publish.counts import Totals, compare_counts
from flows.publish.identity import refuse_other_masks
from flows.publish.replay import RowChecks
from flows.publish.run import Loaded, LoadRun
from flows.state.reconciliations import Reconciliation
from flows.values.checksum import Key
from flows.values.plan import CursorState

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from asyncpg import Connection, Record


class FileDrops(Kind[Files, FileTable]):
    """Folders that files are dropped into."""

    has_key = True  # its block holds a URL, as that of an API

    def address(self, source: Files) -> SourceAddress:
        """The folder."""
        return addresses.look_up(source.name, source.connection)

    def open(
        self, source: Files, address: SourceAddress, where: str, application: str = "medallion"
    ) -> AbstractAsyncContextManager[Place]:
        """The folder, which nothing is written to."""
        return super().open(source, self._place(source, address, where), where, application)

    @staticmethod
    def _place(source: Files, address: SourceAddress, where: str) -> Place:
        skip = source.acknowledge.folder if isinstance(source.acknowledge, Archive) else None
        place = place_of(address, where, skip)
        if not isinstance(source.acknowledge, Leave):
            place.refuse_release()
        return place

    async def plan(self, warehouse: Connection[Record], origin: Place, source: Files, table: FileTable) -> Planned:
        """By what is in the folder, and what was read before."""
        planned = await plan_files(warehouse, origin, source, table)
        return Planned(planned.plan, planned)

    async def waiting(self, warehouse: Connection[Record], origin: Place, planned: Planned) -> Waiting:
        """Rows are not counted before they are read."""
        carry: FilesPlan = planned.carry
        return Waiting(None if carry.pending else 0, keys_differ=bool(carry.gone))

    async def load(self, run: LoadRun[Files, FileTable], planned: Planned) -> Loaded:
        """Read the new files, and publish those that are whole."""
        return await carry_out(run, planned.carry)

    async def acknowledge(self, run: LoadRun[Files, FileTable], planned: Planned, loaded: Loaded) -> None:
        """Archive or delete the files whose rows are committed, those of an interrupted run as well."""
        if not isinstance(run.source.acknowledge, Leave):
            carry: FilesPlan = planned.carry
            await release_files(run, carry.present.values())

    async def compare(self, ends: Ends[Files, FileTable]) -> tuple[Reconciliation, Sequence[Key]]:
        """By counts of rows in the files that raw has."""
        source, table = ends.source, ends.table
        async with connect(ends.warehouse, side="warehouse") as warehouse:
            place = self._place(source, ends.address, ends.where)
            planned = await plan_files(warehouse, place, source, table)
            held = list(planned.known.held.values())
            if isinstance(table.load, Replace):
                held = held[-1:]
            unloaded = len(planned.pending) + sum(not one.is_expected for one in planned.left)
            one_key_in_several = bool(table.keys) and len(held) > 1
            note = "counts of rows in the files as they were read"
            if one_key_in_several:
                note = "several files may have one key, so rows cannot be counted"
            if unloaded:
                note = (
                    f"{unloaded:,} {'file is' if unloaded == 1 else 'files are'} not loaded, so rows cannot be counted"
                )
            totals = Totals(
                None if one_key_in_several or unloaded else sum(one.rows for one in held),
                {key: table.raw_type(key) for key in table.keys},
                note=note,
                newest=table.on_duplicate == "newest",
            )
            target = Target(source.name, table.name, source.raw_schema)
            return await compare_counts(warehouse, target, totals), ()

    async def preview(self, ends: Ends[Files, FileTable], count: int) -> Preview:
        """The first rows of the newest file, as a load would read them."""
        place = self._place(ends.source, ends.address, ends.where)
        return await asyncio.to_thread(look, place, ends.source, ends.table, count)

    async def draft(
        self, name: str, url: str, auth: str, parameter: str | None, key: str | None, user: str | None
    ) -> str:
        """From a file of delimited text, read in full; `url` is its path."""
        return await asyncio.to_thread(draft_files, name, url)

    def row_checks(self, table: FileTable) -> RowChecks:
        """By the declared rules and masks."""
        return RowChecks(table.rules, masks=table.masked)

    def refuse_replay(self, table: FileTable, state: CursorState, raw: Collection[str], where: str) -> None:
        """Quarantine has values as they were masked then."""
        refuse_other_masks(state, raw, table, where)  # type: ignore[arg-type]  # reads masks only

    def columns(self, table: FileTable) -> Sequence[Column]:
        """The declared columns, those of the path, and where each row is from."""
        made = table.pattern.columns
        own = [
            Column(name, self._said(table, name), table.raw_type(name), required=name in table.keys)
            for name in table.named
        ]
        if table.payload is not None:
            own.append(Column(table.payload, "The record as it is in the file.", "jsonb"))
        own += [Column(name, "A part of the file's path.", kind) for name, kind in made.items()]
        return [
            *own,
            Column(FILE, "The path of the file that the row is from.", "text"),
            Column(LINE, "The line there on which the row begins.", "bigint"),
        ]

    @staticmethod
    def _said(table: FileTable, name: str) -> str:
        if (mask := table.masked.get(name)) is not None:
            return f"{'Keyed hash' if isinstance(mask, Hashed) else 'Mask'} of the value in the file."
        return "Key of the row." if name in table.keys else "As it is in the file."

    def describe(self, source: Files) -> str:
        """`folder of files`."""
        return "folder of files"

    def words(self, table: FileTable) -> Words:
        """Its files instead of a cursor."""
        return Words(name=table.match, cursor="contents of files")

    def dataset(self, source: Files, table: FileTable) -> Dataset:
        """By OpenLineage's naming of files: `file` and the path, or `s3://bucket` and the key."""
        url = self.address(source).url.partition("?")[0].rstrip("/")
        if "://" not in url or url.startswith("file://"):
            return Dataset("file", f"{url.removeprefix('file://')}/{table.match}")
        scheme, _, rest = url.partition("://")
        host, _, path = rest.rpartition("@")[2].partition("/")
        return Dataset(f"{scheme}://{host}", "/".join(part for part in (path, table.match) if part))
