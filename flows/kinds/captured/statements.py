"""The statements that make the change table and the triggers of a PostgreSQL table.

Statement triggers with transition tables record each key once per statement: see benchmarks/results/captured.json for
what that costs beside row triggers. Triggers are `enable always`, so that they run with session_replication_role =
replica as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flows.declare.triggers import Triggers
from flows.kinds.captured.names import Names
from flows.values.identifiers import quote_identifier, quote_literal

# What the operations of a change table mean: insert, update, delete; truncate; and that recording has stopped.
_LIMITED = """
    if pg_relation_size('{changes}') > {limit} then
        -- One row says so: later transactions see it, and add none.
        if not exists (select from {changes} where capture_op = 'L') then
            insert into {changes} (capture_op) values ('L');
        end if;
        return null;
    end if;"""
# A key's column may be named as one of plpgsql's variables: found, new.
_BY_STATEMENT = """#variable_conflict use_column
begin{limited}
    if tg_op = 'INSERT' then
        insert into {changes} (capture_op, {keys}) select 'I', {keys} from captured_new;
    elsif tg_op = 'DELETE' then
        insert into {changes} (capture_op, {keys}) select 'D', {keys} from captured_old;
    elsif tg_op = 'UPDATE' then
        -- A changed key is a delete of the old one and an insert of the new one.
        insert into {changes} (capture_op, {keys})
        select case when not bool_or(capture_op) then 'D' when not bool_and(capture_op) then 'U' else 'I' end, {keys}
        from (
            select {keys}, false as capture_op from captured_old union all select {keys}, true from captured_new
        ) as c
        group by {keys};
    else
        insert into {changes} (capture_op) values ('T');
    end if;
    return null;
end
"""
_BY_ROW = """#variable_conflict use_column
begin{limited}
    if tg_op = 'INSERT' then
        insert into {changes} (capture_op, {keys}) values ('I', {new});
    elsif tg_op = 'DELETE' then
        insert into {changes} (capture_op, {keys}) values ('D', {old});
    elsif tg_op = 'TRUNCATE' then
        insert into {changes} (capture_op) values ('T');
    elsif ({old_text}) is distinct from ({new_text}) then
        insert into {changes} (capture_op, {keys}) values ('D', {old}), ('I', {new});
    else
        insert into {changes} (capture_op, {keys}) values ('U', {new});
    end if;
    return null;
end
"""
_GUARD = """
begin
    if coalesce(current_setting('medallion.acknowledges', true), '') <> 'on' then
        perform nextval('{lost}');
    end if;
    return null;
end
"""
_FUNCTION = (
    "create or replace function {name}() returns trigger language plpgsql security definer "
    "set search_path = pg_catalog, pg_temp as $capture${body}$capture$"
)
_EVENTS = {
    "insert": "after insert on {table} referencing new table as captured_new for each statement",
    "update": (
        "after update on {table} referencing old table as captured_old new table as captured_new for each statement"
    ),
    "delete": "after delete on {table} referencing old table as captured_old for each statement",
    "truncate": "after truncate on {table} for each statement",
}
_ROW_EVENTS = {
    "row": "after insert or update or delete on {table} for each row",
    "truncate": "after truncate on {table} for each statement",
}


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A column of the key at the source: its type in full, and the type that the change table has for it."""

    name: str
    type: str
    recorded: str

    @property
    def fitting(self) -> frozenset[str]:
        """Types of the change table's column in which the key fits."""
        return frozenset((self.type, self.recorded))


@dataclass(frozen=True, slots=True)
class Statements:
    """Of one table: its names, its quoted relation, its key, whether its triggers run for each row."""

    names: Names
    relation: str
    keys: Sequence[KeyColumn]
    triggers: Triggers
    by_row: bool
    belongs_to: str = ""

    @property
    def body(self) -> str:
        """The body of the function that records changes."""
        names = [quote_identifier(key.name) for key in self.keys]
        limited = _LIMITED.format(changes=self.names.changes, limit=self.triggers.limit)
        return (_BY_ROW if self.by_row else _BY_STATEMENT).format(
            changes=self.names.changes,
            limited=limited,
            keys=", ".join(names),
            old=", ".join(f"old.{name}" for name in names),
            new=", ".join(f"new.{name}" for name in names),
            # As texts: the operators of an extension's type are not on the function's search_path.
            old_text=", ".join(f"old.{name}::text" for name in names),
            new_text=", ".join(f"new.{name}::text" for name in names),
        )

    @property
    def guard_body(self) -> str:
        """The body of the function that notices removals."""
        return _GUARD.format(lost=self.names.lost)

    @property
    def events(self) -> dict[str, str]:
        """When the triggers run, by the name of the event."""
        return _ROW_EVENTS if self.by_row else _EVENTS

    def change_table(self) -> list[str]:
        """Make the change table, its counter, what says who has emptied it, and what notices removals."""
        columns = ", ".join(f"{quote_identifier(key.name)} {key.recorded}" for key in self.keys)
        changes, guard = self.names.changes, self.names.guard
        guarded = quote_identifier(f"{self.names.base}__guard")
        return [
            f"create table {changes} (capture_id bigint generated always as identity primary key, "
            "capture_op text not null, capture_xact bigint not null default txid_current(), "
            f"capture_at timestamptz not null default clock_timestamp(), {columns})",
            f"comment on table {changes} is {quote_literal(self.belongs_to)}",
            f"create index on {changes} (capture_op) where capture_op = 'L'",
            f"create sequence {self.names.lost} minvalue 0 start 0",
            *self.read_table(),
            _FUNCTION.format(name=guard, body=self.guard_body),
            f"create trigger {guarded} after delete or truncate on {changes} for each statement "
            f"execute function {guard}()",
        ]

    def read_table(self) -> list[str]:
        """Make the table that says which load has emptied the change table last: one row."""
        return [
            f"create table {self.names.read} (token bigint not null)",
            f"insert into {self.names.read} values (0)",
        ]

    def function(self) -> str:
        """Make the function that records changes, or replace it."""
        return _FUNCTION.format(name=self.names.function, body=self.body)

    def create_triggers(self) -> list[str]:
        """Make the triggers. Each waits for open transactions that have written the table."""
        made = []
        for event, when in self.events.items():
            name = self.names.quoted_trigger(event)
            made.append(
                f"create trigger {name} {when.format(table=self.relation)} execute function {self.names.function}()"
            )
            made.append(f"alter table {self.relation} enable always trigger {name}")
        return made


def drop(names: Names) -> list[str]:
    """Drop everything of a table: the triggers go with their function."""
    return [
        f"drop function if exists {names.function}() cascade",
        f"drop table if exists {names.changes}",
        f"drop table if exists {names.read}",
        f"drop function if exists {names.guard}()",
        f"drop sequence if exists {names.lost}",
    ]


def belongs_to(source: str) -> str:
    """The comment on a change table: a table that is no longer declared is found by it."""
    return f"medallion: changes for source {source}"
