"""Changes of a table → a landing table with each key's last version, and a table of deleted keys. Set-based.

truncates      what came before the last one does not count; live rows of raw are deleted
unchanged      values that are not in the log are taken from the row's earlier version: the old tuple of the update,
               an earlier change of this read, also under another key, or raw
keys           a changed key is a deleted old one, and a row with the new one
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.kinds.changelog.changes import Changes
from flows.landing.table import LANDING_SCHEMA, Stamp, Target, create_landing
from flows.publish import write
from flows.quality import open_rows, quarantine
from flows.values.checksum import Key
from flows.values.identifiers import qualified, quote_identifier, quote_literal
from flows.values.plan import KeySet
from flows.values.shape import METADATA_NAMES, Shape, column_list, fingerprint

if TYPE_CHECKING:
    from asyncpg import Connection, Record

ReadAgain = Callable[[Sequence[Key], str], Awaitable[Mapping[Key, str | None]]]
"""Reads the values of a column from the source, by key; without the keys that are gone."""

_READ_AGAIN = 5_000
# Actions that leave no row of this key: deleted, and the old tuples of updates.
_GONE = "_log_op in ('D', 'k', 'o')"


@dataclass(frozen=True, slots=True)
class Net:
    """One table's changes on their way to its landing table."""

    warehouse: Connection[Record]
    target: Target
    shape: Shape
    keys: tuple[str, ...]
    changes: Changes

    @property
    def gone(self) -> str:
        """The table of keys that were deleted."""
        return gone_table(self.target)

    def _typed(self, name: str, alias: str = "c") -> str:
        column = self.shape.column(name)
        assert column is not None  # the key is checked, and others are those of the shape
        if name not in self.changes.columns:
            return f"null::{column.raw_type}"
        text = f"{alias}.{quote_identifier(name)}"
        return text if column.raw_type == "text" else f"{text}::{column.raw_type}"

    async def source_keys(self, before: KeySet) -> KeySet:
        """The source's keys after these changes, from those before: only from what the log says.

        Compared with raw, it notices a change that was lost or applied twice.
        """
        if not self.changes.columns:  # at most truncated
            return before if not self.changes.rows else KeySet(0, before.fingerprint and before.fingerprint * 0)
        mark = fingerprint([self._typed(key) for key in self.keys])
        sums = ", ".join(
            f"(select count(*) from {self.changes.relation} as c where {ops}) as rows_{name}, "
            f"(select {mark} from {self.changes.relation} as c where {ops}) as mark_{name}"
            for name, ops in (("in", "_log_op in ('I', 'V')"), ("out", _GONE))
        )
        row = await self.warehouse.fetchrow(f"select {sums}")
        assert row is not None  # a select without a table
        base = before if not self.changes.counts.get("T") else KeySet(0, before.fingerprint and before.fingerprint * 0)
        assert base.fingerprint is not None  # of a table with a key
        return KeySet(base.rows + row["rows_in"] - row["rows_out"], base.fingerprint + row["mark_in"] - row["mark_out"])

    async def land(self, stamp: Stamp, read_again: ReadAgain) -> int:
        """Fill the landing table, and that of deleted keys; returns how many rows the first has."""
        await create_landing(self.warehouse, self.target, self.shape, first=False)
        await create_gone(self.warehouse, self.target, self.shape, self.keys)
        if self.changes.counts.get("T"):
            await self._after_truncate()
        if self.changes.kept:
            await self._fill_unchanged(read_again)
        if self.changes.columns:
            await self._last_versions(stamp)
        if self.changes.counts.get("T"):
            await self._all_are_gone()
        await self._close_quarantined()
        return int(await self.warehouse.fetchval(f"select count(*) from {self.target.landing}"))

    async def _after_truncate(self) -> None:
        relation = self.changes.relation
        await self.warehouse.execute(
            f"delete from {relation} where _log_seq <= (select max(_log_seq) from {relation} where _log_op = 'T')"
        )

    async def _last_versions(self, stamp: Stamp) -> None:
        keys = ", ".join(self._typed(key) for key in self.keys)
        values = ", ".join(
            self._typed(name) if name in self.keys else f"case when {_GONE} then null else {self._typed(name)} end"
            for name in self.shape.names
        )
        moment = f"{quote_literal(stamp.extracted_at)}::timestamptz"
        await self.warehouse.execute(
            f"insert into {self.target.landing} ({column_list([*self.shape.names, *METADATA_NAMES])}) "
            f"select distinct on ({keys}) {values}, {moment}, {quote_literal(self.target.source)}, {stamp.batch_id}, "
            f"case when {_GONE} then {moment} end from {self.changes.relation} as c "
            f"order by {keys}, _log_seq desc"
        )
        await self.warehouse.execute(
            f"with gone as (delete from {self.target.landing} where _deleted_at is not null "
            f"returning {column_list(self.keys)}) insert into {self.gone} select * from gone"
        )

    async def _all_are_gone(self) -> None:
        await self.warehouse.execute(
            f"insert into {self.gone} select {column_list(self.keys, 'r')} from {self.target.raw} as r "
            f"where r._deleted_at is null and not exists "
            f"(select from {self.target.landing} as l where {self._same('l', 'r')})"
        )
        if await open_rows.count_open(self.warehouse, table=self.target.name):
            await quarantine.resolve_gone(
                self.warehouse, self.target.landing, self.shape, self._kinds, table=self.target.name
            )

    async def _close_quarantined(self) -> None:
        """Quarantined rows that were deleted at the source leave quarantine."""
        if await open_rows.count_open(self.warehouse, table=self.target.name):
            gone = f"(select *, clock_timestamp() as _deleted_at from {self.gone})"
            await quarantine.resolve(self.warehouse, gone, self.shape, self._kinds, table=self.target.name)

    @property
    def _kinds(self) -> dict[str, str]:
        return {key: column.raw_type for key in self.keys if (column := self.shape.column(key))}

    def _same(self, left: str, right: str) -> str:
        return " and ".join(f"{left}.{quote_identifier(key)} = {right}.{quote_identifier(key)}" for key in self.keys)

    # -- values that the log leaves out

    async def _fill_unchanged(self, read_again: ReadAgain) -> None:
        relation, keys = self.changes.relation, column_list(self.keys)
        await self.warehouse.execute(f"create index on {relation} (_log_seq)")
        # Keys as the source writes them: another text of an equal number is a changed key in the log.
        await self.warehouse.execute(f"create index on {relation} ({keys}, _log_seq)")
        await self.warehouse.execute(f"analyze {relation}")
        for place, name in enumerate(self.changes.columns):
            if self.shape.column(name) is None:
                continue  # dropped meanwhile
            if await self.warehouse.fetchval(
                f"select exists (select from {relation} as c where {_left_out('c', place)})"
            ):
                await self._from_old_tuples(place, name)
                await self._from_earlier(place, name)
                await self._from_the_source(place, name, read_again)

    async def _from_old_tuples(self, place: int, name: str) -> None:
        """With replica identity full, the old tuple of the same update has the value."""
        column = quote_identifier(name)
        await self.warehouse.execute(
            f"update {self.changes.relation} as c "
            f"set {column} = o.{column}, _log_kept = set_bit(c._log_kept, {place}, 0) "
            f"from {self.changes.relation} as o where o._log_seq = c._log_seq - 1 and o._log_op = 'o' "
            f"and {_left_out('c', place)} and not {_left_out('o', place)}"
        )

    async def _from_earlier(self, place: int, name: str) -> None:
        """Follow each row back: earlier changes of its key, before that those of the key it had, at last raw."""
        relation, column = self.changes.relation, quote_identifier(name)
        numbered = [(f"k{number}", key) for number, key in enumerate(self.keys)]
        followed = ", ".join(
            f"case when o._log_seq is null then w.{k} else o.{quote_identifier(key)} end as {k}" for k, key in numbered
        )
        in_raw = " and ".join(
            f"r.{quote_identifier(key)} = w.{k}::{found.raw_type}"
            for k, key in numbered
            if (found := self.shape.column(key))
        )
        await self.warehouse.execute(
            f"""
            with recursive walk as (
                select c._log_seq as wanted, c._log_seq as below,
                    {", ".join(f"c.{quote_identifier(key)} as {k}" for k, key in numbered)},
                    false as found, null::text as value, false as ended
                from {relation} as c where {self._is_last(place)}
                union all
                select w.wanted, e.*
                from walk as w
                cross join lateral (
                    select coalesce(o._log_seq, e._log_seq) as below, {followed},
                        e._log_seq is not null and not {_left_out("e", place)} as found,
                        case when not {_left_out("e", place)} then e.{column} end as value,
                        e._log_seq is null as ended
                    from (select) as one
                    left join lateral (
                        select * from {relation} as e
                        where {" and ".join(f"e.{quote_identifier(key)} = w.{k}" for k, key in numbered)}
                            and e._log_seq <= w.below and e._log_op in ('I', 'U', 'V')
                            and (e._log_op = 'V' or not {_left_out("e", place)})
                        order by e._log_seq desc limit 1
                    ) as e on true
                    left join {relation} as o on e._log_op = 'V' and {_left_out("e", place)}
                        and o._log_seq = e._log_seq - 1
                ) as e
                where not w.found and not w.ended
            ), answers as (
                select w.wanted, case when w.found then w.value else r.{column}::text end as value
                from walk as w
                left join {self.target.raw} as r on w.ended and r._deleted_at is null and {in_raw}
                where w.found or r._batch_id is not null
            )
            update {relation} as c set {column} = a.value, _log_kept = set_bit(c._log_kept, {place}, 0)
            from answers as a where a.wanted = c._log_seq
            """  # nosec B608 - names are quoted
        )

    async def _from_the_source(self, place: int, name: str, read_again: ReadAgain) -> None:
        """Rows that raw does not have, because they are quarantined: the source is asked for their values."""
        relation, column, keys = self.changes.relation, quote_identifier(name), column_list(self.keys)
        while rows := await self.warehouse.fetch(
            f"select distinct {keys} from {relation} as c where {self._is_last(place)} limit {_READ_AGAIN}"
        ):
            asked = [tuple(row.values()) for row in rows]
            found = await read_again(asked, name)
            same = " and ".join(f"c.{quote_identifier(key)} = f.k{number}" for number, key in enumerate(self.keys))
            arrays = ", ".join(f"${number}::text[]" for number, _ in enumerate(self.keys, 1))
            names = ", ".join(f"k{number}" for number, _ in enumerate(self.keys))
            await self.warehouse.execute(
                f"update {relation} as c set {column} = f.value, _log_kept = set_bit(c._log_kept, {place}, 0) "
                f"from unnest({arrays}, ${len(self.keys) + 1}::text[]) as f ({names}, value) "
                f"where {same} and {_left_out('c', place)}",
                *([key[number] for key in found] for number, _ in enumerate(self.keys)),
                [*found.values()],
            )
            # What is gone there by now was deleted later in the log.
            await self.warehouse.execute(
                f"delete from {relation} as c using unnest({arrays}) as f ({names}) "
                f"where {same} and {_left_out('c', place)}",
                *([key[number] for key in asked if key not in found] for number, _ in enumerate(self.keys)),
            )

    def _is_last(self, place: int) -> str:
        """SQL over the changes `c`: the last one of its key, without a value."""
        same = " and ".join(f"n.{quote_identifier(key)} = c.{quote_identifier(key)}" for key in self.keys)
        later = f"select from {self.changes.relation} as n where {same} and n._log_seq > c._log_seq"
        return f"{_left_out('c', place)} and not exists ({later})"


def gone_table(target: Target) -> str:
    """The table beside the landing table for keys that the source has deleted."""
    return qualified(LANDING_SCHEMA, f"{target.landing_name}__g")


async def create_gone(connection: Connection[Record], target: Target, shape: Shape, keys: tuple[str, ...]) -> None:
    """Make that table, empty."""
    columns = [f"{quote_identifier(key)} {column.raw_type}" for key in keys if (column := shape.column(key))]
    await connection.execute(f"drop table if exists {gone_table(target)}")
    await connection.execute(f"create unlogged table {gone_table(target)} ({', '.join(columns)})")


async def drop_gone(target: Target, connection: Connection[Record], batch_id: int) -> None:
    """Drop it, in the transaction that publishes the batch."""
    await connection.execute(f"drop table {gone_table(target)}")


def _left_out(alias: str, place: int) -> str:
    """SQL: the log does not have the row's value of the column, because it did not change."""
    kept = f"{alias}._log_kept"
    return f"(coalesce({place} < 8 * length({kept}) and get_bit({kept}, {place}) = 1, false))"


async def held(warehouse: Connection[Record], target: Target, keys: tuple[str, ...], shape: Shape) -> KeySet:
    """The keys that raw and quarantine hold together."""
    in_raw, only_quarantined = await held_apart(warehouse, target, keys, shape)
    return in_raw.plus(only_quarantined)


async def held_apart(
    warehouse: Connection[Record], target: Target, keys: tuple[str, ...], shape: Shape
) -> tuple[KeySet, KeySet]:
    """The keys that raw holds, and those that only quarantine holds."""
    in_raw = await write.key_set(warehouse, target, keys)
    kinds = {key: column.raw_type for key in keys if (column := shape.column(key))}
    if not await open_rows.count_open(warehouse, table=target.name):
        return in_raw, KeySet(0, in_raw.fingerprint and in_raw.fingerprint * 0)
    return in_raw, await open_rows.key_set_not_in_raw(warehouse, target.raw, kinds, table=target.name)
