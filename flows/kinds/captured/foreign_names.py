"""The statements that make change table and triggers of a MySQL or MariaDB table.

They are in the table's own database. Row triggers are all there is; `truncate` fires none, and is noticed by the id
that InnoDB gives the emptied table. Triggers only insert: whatever they read would be locked until the end of the
application's transaction, and a trigger that looked at its change table made writers wait for each other. So the size
is looked at by an event, every five minutes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from flows.declare.table import Table
from flows.declare.triggers import Triggers
from flows.kinds.databases.dialects import DIALECTS

_DIALECT = DIALECTS["mysql"]
# MySQL's names have at most 64 characters, and suffixes 3.
_LONGEST = 58
# A row of a change table with a short key, in InnoDB.
_BYTES_PER_ROW = 64


def quote(name: str) -> str:
    """The name as an identifier."""
    return _DIALECT.quote(name)


@dataclass(frozen=True, slots=True)
class ForeignNames:
    """The names of what capture makes, unquoted and without their database."""

    base: str

    @classmethod
    def of(cls, source: str, table: Table) -> ForeignNames:
        """By the source's and the table's declared names."""
        base = f"medallion__{source}__{table.name}"
        if len(base) > _LONGEST:
            base = f"{base[: _LONGEST - 14]}__{hashlib.sha256(base.encode()).hexdigest()[:12]}"
        return cls(base)

    @property
    def limit(self) -> str:
        """The event that empties the change table beyond its limit."""
        return f"{self.base}__l"

    @property
    def facts(self) -> str:
        """The function that says which triggers there are, which needs a right that readers do not have."""
        return f"{self.base}__f"

    def trigger(self, event: str) -> str:
        """The trigger of `insert`, `update` or `delete`."""
        return f"{self.base}__{event[0]}"


_TRIGGER = """create trigger {name} after {event} on {table} for each row
begin
    {record}
end"""
_RECORD = "insert into {changes} (capture_op, {keys}) values ({op}, {row});"
_UPDATE = """if {same} then
        insert into {changes} (capture_op, {keys}) values ('U', {new});
    else
        insert into {changes} (capture_op, {keys}) values ('D', {old}), ('I', {new});
    end if;"""
# An emptied change table is noticed by the next load, which reads the table in full.
_LIMIT = """create event {name} on schedule every 5 minute do
begin
    if (select max(capture_id) - min(capture_id) from {changes}) > {limit} then
        truncate table {changes};
    end if;
end"""
# What InnoDB calls its tables differs between MariaDB and MySQL.
_INNODB = {True: "information_schema.innodb_sys_tables", False: "information_schema.innodb_tables"}
_FACTS = """create function {name}() returns varchar(2000) charset utf8mb4 reads sql data sql security definer
return concat_ws(',',
    (
        select group_concat(t.trigger_name, ' ', t.created, ' ', md5(t.action_statement) order by t.trigger_name)
        from information_schema.triggers as t
        where t.event_object_schema = {schema} and t.event_object_table = {table}
            and t.trigger_name in ('{base}__i', '{base}__u', '{base}__d')
    ),
    concat('table ', (select max(table_id) from {innodb} where name = concat({schema}, '/', {table}))),
    concat('changes ', (select max(table_id) from {innodb} where name = concat({schema}, '/', '{base}')))
)"""


@dataclass(frozen=True, slots=True)
class ForeignStatements:
    """Of one table: its names, its database, its key with types in full."""

    names: ForeignNames
    schema: str
    table: str
    keys: Sequence[tuple[str, str]]
    triggers: Triggers
    is_mariadb: bool = True

    @property
    def limit(self) -> int:
        """`max_waiting` in rows."""
        return max(1, self.triggers.limit // _BYTES_PER_ROW)

    def within(self, name: str) -> str:
        """The name with its database, quoted."""
        return f"{quote(self.schema)}.{quote(name)}"

    @property
    def changes(self) -> str:
        """The change table, quoted."""
        return self.within(self.names.base)

    @property
    def key_list(self) -> str:
        """The key's columns, quoted."""
        return ", ".join(quote(name) for name, _ in self.keys)

    @property
    def bodies(self) -> dict[str, str]:
        """The statements that make the triggers, by event."""
        rows = {
            side: ", ".join(f"{side}.{quote(name)}" for name, _ in self.keys) for side in ("old", "new")
        }  # fmt: skip
        # By bytes: a key that changes in its case only is another one for PostgreSQL.
        same = " and ".join(
            f"cast(old.{quote(name)} as binary) <=> cast(new.{quote(name)} as binary)" for name, _ in self.keys
        )
        of_all = {"changes": self.changes, "keys": self.key_list}
        records = {
            "insert": _RECORD.format(op="'I'", row=rows["new"], **of_all),
            "update": _UPDATE.format(same=same, **rows, **of_all),
            "delete": _RECORD.format(op="'D'", row=rows["old"], **of_all),
        }
        return {
            event: _TRIGGER.format(
                name=self.within(self.names.trigger(event)),
                event=event,
                table=self.within(self.table),
                changes=self.changes,
                record=record,
            )
            for event, record in records.items()
        }

    def tables(self) -> list[str]:
        """Make the change table, and what is beside it."""
        columns = ", ".join(f"{quote(name)} {spelled}" for name, spelled in self.keys)
        schema, table = _DIALECT.literal(self.schema), _DIALECT.literal(self.table)
        return [
            f"create table {self.changes} (capture_id bigint not null auto_increment primary key, "
            "capture_op char(1) character set ascii not null, "
            "capture_xact bigint not null default (connection_id()), "
            f"capture_at timestamp(6) not null default current_timestamp(6), {columns}) engine = InnoDB",
            _FACTS.format(
                name=self.within(self.names.facts),
                schema=schema,
                table=table,
                base=self.names.base,
                innodb=_INNODB[self.is_mariadb],
            ),
            _LIMIT.format(name=self.within(self.names.limit), changes=self.changes, limit=self.limit),
        ]

    def grants(self, account: str) -> list[str]:
        """What the account that reads needs: `drop` is the right to truncate."""
        return [
            f"grant select, delete, drop on {self.changes} to {account}",
            f"grant execute on function {self.within(self.names.facts)} to {account}",
        ]

    def drop(self) -> list[str]:
        """Drop everything, the triggers first: they would fail without their table."""
        triggers = [f"drop trigger if exists {self.within(self.names.trigger(event))}" for event in self.bodies]
        return [
            *triggers,
            f"drop event if exists {self.within(self.names.limit)}",
            f"drop function if exists {self.within(self.names.facts)}",
            f"drop table if exists {self.changes}",
        ]
