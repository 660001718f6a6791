"""The statements that make change table and triggers of a MySQL or MariaDB table.

They are in the table's own database. Row triggers are all there is; `truncate` fires none, and is noticed by the id
that InnoDB gives the emptied table. Triggers only insert: whatever they read would be locked until the end of the
application's transaction, and a trigger that looked at its change table made writers wait for each other. So the size
is looked at by an event, every five minutes.
"""

from __future__ import annotations

import hashlib
import re
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
    def read(self) -> str:
        """The table that says which load has emptied the change table last."""
        return f"{self.base}__r"

    @property
    def facts(self) -> str:
        """The function that says which triggers there are, which needs a right that readers do not have."""
        return f"{self.base}__f"

    def trigger(self, event: str) -> str:
        """The trigger of `insert`, `update` or `delete`."""
        return f"{self.base}__{event[0]}"


#: What capture has at the source; another one is set up again.
VERSION = 2
_TRIGGER = "create trigger {name} after {event} on {table} for each row\n{body}"
_BODY = """begin
    {record}
end"""
_RECORD = "insert into {changes} (capture_op, {keys}) values ({op}, {row});"
_UPDATE = """if {same} then
        insert into {changes} (capture_op, {keys}) values ('U', {new});
    else
        insert into {changes} (capture_op, {keys}) values ('D', {old}), ('I', {new});
    end if;"""
# An emptied change table is noticed by the next load, which reads the table in full. A query that is part of `if` locks
# the rows that it reads, and the ids that follow them: it waited for open transactions, and writers waited for it. So
# it is a query of its own. While `truncate` waits for an open transaction, writers wait behind it as well; so it gives
# up soon, and is tried again with the next event.
_LIMIT = """create event {name} on schedule every 5 minute do
begin
    declare waiting bigint;
    set session transaction isolation level read committed;
    set session lock_wait_timeout = 2;
    select max(capture_id) - min(capture_id) into waiting from {changes};
    if waiting > {limit} then
        truncate table {changes};
    end if;
end"""
# What InnoDB calls its tables differs between MariaDB and MySQL.
_INNODB = {True: "information_schema.innodb_sys_tables", False: "information_schema.innodb_tables"}
# A partition is an InnoDB table of its own, whose name goes on after a #.
_ID = """(
        select concat(count(*), '.', max(table_id), '.', sum(table_id)) from {innodb}
        where substring_index(name, '#', 1) = {file}
    )"""
_FACTS = """create function {name}() returns varchar(4000) charset utf8mb4 reads sql data sql security definer
return concat_ws(',', 'version {version}', 'limit {limit}',
    (
        select group_concat(t.trigger_name, ' ', t.created, ' ', md5(t.action_statement) order by t.trigger_name)
        from information_schema.triggers as t
        where t.event_object_schema = {schema} and t.event_object_table = {table}
            and t.trigger_name in ('{base}__i', '{base}__u', '{base}__d')
    ),
    concat('event ', coalesce((
        select max(e.status) from information_schema.events as e
        where e.event_schema = {schema} and e.event_name = '{event}'
    ), 'MISSING')),
    concat('rules ', (
        select group_concat(distinct r.delete_rule, '/', r.update_rule order by 1 separator ';')
        from information_schema.referential_constraints as r
        where r.constraint_schema = {schema} and r.table_name = {table}
    )),
    concat('table ', {table_id}),
    concat('changes ', {changes_id})
)"""
_PLAIN = re.compile(r"\w+", re.ASCII)
_INTEGER = re.compile(r"((?:tiny|small|medium|big)?int)(?:\(\d+\))?( unsigned)?(?: zerofill)?", re.ASCII)


def recorded(spelled: str) -> str:
    """The type that the change table has for a key of this type: a key that gets a larger integer still fits."""
    found = _INTEGER.fullmatch(spelled)
    return spelled if found is None else f"bigint{found[2] or ''}"


def plain(spelled: str) -> str:
    """The type without what does not change its values: the width in which integers are shown."""
    found = _INTEGER.fullmatch(spelled)
    return spelled if found is None else f"{found[1]}{found[2] or ''}"


def is_text(spelled: str) -> bool:
    """Whether values of the type are compared by a collation, so that others than the same may be equal."""
    return " collate " in spelled


def _file(schema: str, table: str) -> str:
    """SQL: what InnoDB calls the table, in which other letters than plain ones are encoded."""

    def encoded(name: str) -> str:
        literal = _DIALECT.literal(name)
        return literal if _PLAIN.fullmatch(name) else f"cast(convert({literal} using filename) as binary)"

    return f"concat({encoded(schema)}, '/', {encoded(table)})"


@dataclass(frozen=True, slots=True)
class ForeignStatements:
    """Of one table of a source: its names, its database, its key with types in full."""

    source: str
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
        """What the triggers do, by event."""
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
        return {event: _BODY.format(record=record) for event, record in records.items()}

    def create_triggers(self) -> list[str]:
        """Make the triggers."""
        return [
            _TRIGGER.format(
                name=self.within(self.names.trigger(event)), event=event, table=self.within(self.table), body=body
            )
            for event, body in self.bodies.items()
        ]

    def tables(self) -> list[str]:
        """Make the change table, and what is beside it."""
        # `null` is said, because a timestamp would be `not null` otherwise.
        columns = ", ".join(f"{quote(name)} {recorded(spelled)} null" for name, spelled in self.keys)
        innodb = _INNODB[self.is_mariadb]
        return [
            f"create table {self.changes} (capture_id bigint not null auto_increment primary key, "
            "capture_op char(1) character set ascii not null, "
            "capture_xact bigint not null default (connection_id()), "
            f"capture_at timestamp(6) not null default current_timestamp(6), {columns}) engine = InnoDB "
            f"comment = '{belongs_to(self.source)}'",  # a plain name
            f"create table {self.within(self.names.read)} (token bigint not null) engine = InnoDB",
            f"insert into {self.within(self.names.read)} values (0)",
            _FACTS.format(
                name=self.within(self.names.facts),
                version=VERSION,
                limit=self.limit,
                schema=_DIALECT.literal(self.schema),
                table=_DIALECT.literal(self.table),
                base=self.names.base,
                event=self.names.limit,
                table_id=_ID.format(innodb=innodb, file=_file(self.schema, self.table)),
                changes_id=_ID.format(innodb=innodb, file=_file(self.schema, self.names.base)),
            ),
            _LIMIT.format(name=self.within(self.names.limit), changes=self.changes, limit=self.limit),
        ]

    def grants(self, account: str) -> list[str]:
        """What the account that reads needs: `drop` is the right to truncate."""
        return [
            f"grant select, delete, drop on {self.changes} to {account}",
            f"grant select, update on {self.within(self.names.read)} to {account}",
            f"grant execute on function {self.within(self.names.facts)} to {account}",
        ]


def drop(schema: str, names: ForeignNames) -> list[str]:
    """Drop everything of a table, the triggers first: they would fail without their table."""

    def within(name: str) -> str:
        return f"{quote(schema)}.{quote(name)}"

    return [
        *(f"drop trigger if exists {within(names.trigger(event))}" for event in ("insert", "update", "delete")),
        f"drop event if exists {within(names.limit)}",
        f"drop function if exists {within(names.facts)}",
        f"drop table if exists {within(names.read)}",
        f"drop table if exists {within(names.base)}",
    ]


def belongs_to(source: str) -> str:
    """The comment of a change table: a table that is no longer declared is found by it."""
    return f"medallion: changes for source {source}"
