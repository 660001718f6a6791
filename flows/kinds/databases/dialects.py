"""Differences of the engines read through Arrow: names, literals, catalogue, snapshot and open transactions.

Queries only; nothing here opens a connection. Rows of a catalogue query have the columns of `SourceColumn`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.declare.database import Engine
from flows.declare.table import Table
from flows.kinds.databases.types import SourceColumn


@dataclass(frozen=True, slots=True)
class Dialect:
    """One engine's SQL.

    `clock` returns (now), in UTC; `oldest` returns (now, age), of the oldest open transaction in microseconds;
    `caution` returns (replica), 1 for a replica. `session` is set on connecting, `begin` takes the snapshot.
    `chunked`: its driver buffers full results in memory.
    """

    engine: Engine
    begin: tuple[str, ...]
    session: tuple[str, ...] = ()
    clock: str = ""
    oldest: str = ""
    caution: str = ""
    chunked: bool = False

    def quote(self, name: str) -> str:
        """The name as an identifier."""
        match self.engine:
            case "mysql":
                return "`" + name.replace("`", "``") + "`"
            case "mssql":
                return "[" + name.replace("]", "]]") + "]"
            case _:
                return '"' + name.replace('"', '""') + '"'

    def literal(self, text: str) -> str:
        """The text as an injection-safe literal."""
        match self.engine:
            case "mysql":  # in hex, because the meaning of a backslash depends on sql_mode
                return f"_utf8mb4 x'{text.encode().hex()}'" if text else "''"
            case "mssql":
                return "N'" + text.replace("'", "''") + "'"
            case _:
                return "'" + text.replace("'", "''") + "'"

    def column(self, name: str) -> str:
        """The column of the source table; the alias `s` distinguishes it from names of expressions."""
        return f"s.{self.quote(name)}"

    def relation(self, table: Table) -> str:
        """The table to read from, as `s`: its declared rows. The schema `public` means the connection's own."""
        schema = "" if table.schema == "public" else self.quote(table.schema) + "."
        relation = f"{schema}{self.quote(table.at_source)}"
        return f"(select * from {relation} where ({table.where}\n)) as s" if table.where else f"{relation} as s"

    def limited(self, columns: str, table: Table, condition: str, order: str, rows: int) -> str:
        """The first so many rows by an order."""
        if self.engine == "mssql":
            return f"select top ({rows}) {columns} from {self.relation(table)} where {condition} order by {order}"
        return f"select {columns} from {self.relation(table)} where {condition} order by {order} limit {rows}"

    def some(self, columns: str, table: Table, condition: str, rows: int) -> str:
        """So many rows, whichever they are."""
        if self.engine == "mssql":
            return f"select top ({rows}) {columns} from {self.relation(table)} where {condition}"
        return f"select {columns} from {self.relation(table)} where {condition} limit {rows}"

    def octets(self, expression: str) -> str:
        """The size of a text in bytes, or an upper bound."""
        match self.engine:
            case "mysql":
                return f"octet_length({expression})"
            case "mssql":
                return f"datalength({expression}) * 2"
            case _:
                return f"length({expression}) * 4"

    def document(self, values: Mapping[str, str]) -> str:
        """A row as the text of a JSON object, from names and text expressions."""
        if self.engine == "mssql":
            named = ", ".join(f"{text} as {self.quote(name)}" for name, text in values.items())
            return f"(select {named} for json path, include_null_values, without_array_wrapper)"
        pairs = ", ".join(f"{self.literal(name)}, {text}" for name, text in values.items())
        made = f"json_object({pairs})"
        return f"convert({made} using utf8mb4)" if self.engine == "mysql" else made

    def catalogue(self, table: Table) -> str:
        """The query for the table's columns, in order."""
        schema = None if table.schema == "public" else self.literal(table.schema)
        match self.engine:
            case "mysql":
                return _MYSQL_COLUMNS.format(schema=schema or "database()", table=self.literal(table.at_source))
            case "mssql":
                return _MSSQL_COLUMNS.format(schema=schema or "schema_name()", table=self.literal(table.at_source))
            case _:
                return _SQLITE_COLUMNS.format(schema=schema or "'main'", table=self.literal(table.at_source))

    def unique_keys(self, table: Table) -> str:
        """The query for the columns of indexes that forbid equal rows, as (name, column_name)."""
        schema = None if table.schema == "public" else self.literal(table.schema)
        match self.engine:
            case "mysql":
                return _MYSQL_UNIQUE.format(schema=schema or "database()", table=self.literal(table.at_source))
            case "mssql":
                return _MSSQL_UNIQUE.format(schema=schema or "schema_name()", table=self.literal(table.at_source))
            case _:
                return _SQLITE_UNIQUE.format(schema=schema or "'main'", table=self.literal(table.at_source))

    def source_column(self, row: Mapping[str, Any]) -> SourceColumn:
        """A row of the catalogue."""

        def number(name: str) -> int:
            return int(row.get(name) or 0)

        return SourceColumn(
            name=str(row["name"]),
            type=str(row["type"] or "").lower(),
            nullable=bool(number("nullable")),
            precision=number("digits"),
            scale=number("scale"),
            fraction=number("fraction"),
            octets=number("octets"),
        )


# Lengths are cast, since catalogues report lengths in different types.
_MYSQL_COLUMNS = """
select
    cast(column_name as char(64)) as name,
    cast(concat(data_type, if(column_type like '%unsigned%', ' unsigned', '')) as char(64)) as type,
    if(is_nullable = 'YES', 1, 0) as nullable,
    cast(coalesce(numeric_precision, 0) as signed) as digits,
    cast(coalesce(numeric_scale, 0) as signed) as scale,
    cast(coalesce(datetime_precision, 0) as signed) as fraction,
    cast(coalesce(character_octet_length, 0) as signed) as octets
from information_schema.columns
where table_schema = {schema} and table_name = {table}
order by ordinal_position
"""
_MYSQL_UNIQUE = """
select cast(s.index_name as char(64)) as name, cast(s.column_name as char(64)) as column_name
from information_schema.statistics as s
where
    s.table_schema = {schema} and s.table_name = {table} and s.non_unique = 0
    -- One nullable column, and rows with equal other columns are allowed.
    and not exists (
        select 1 from information_schema.statistics as n
        where n.table_schema = s.table_schema and n.table_name = s.table_name and n.index_name = s.index_name
            and n.nullable <> ''
    )
"""
_SQLITE_UNIQUE = """
select il.name as name, ii.name as column_name
from pragma_index_list({table}, {schema}) as il inner join pragma_index_info(il.name, {schema}) as ii
where il."unique" = 1 and il.partial = 0
union all
select '' as name, name as column_name from pragma_table_info({table}, {schema}) where pk > 0
"""
_MSSQL_UNIQUE = """
select i.name as name, c.name as column_name
from sys.indexes as i
inner join sys.index_columns as k on k.object_id = i.object_id and k.index_id = i.index_id
inner join sys.columns as c on c.object_id = k.object_id and c.column_id = k.column_id
where
    i.object_id = object_id(concat(quotename({schema}), '.', quotename({table})))
    and i.is_unique = 1 and i.is_disabled = 0 and i.has_filter = 0 and k.is_included_column = 0
"""
# 0 and 2, 3 of `hidden` are ordinary and generated columns.
_SQLITE_COLUMNS = """
select
    name,
    lower(case when instr(type, '(') > 0 then substr(type, 1, instr(type, '(') - 1) else type end) as type,
    case when "notnull" = 1 or pk > 0 then 0 else 1 end as nullable
from pragma_table_xinfo({table}, {schema})
where hidden <> 1
order by cid
"""
_MSSQL_COLUMNS = """
select
    c.column_name as name,
    case
        when c.character_maximum_length = -1 then concat(c.data_type, ':max')
        when c.datetime_precision is not null and c.data_type like '%2' or c.data_type = 'time'
            then concat(c.data_type, ':', c.datetime_precision)
        else c.data_type
    end as type,
    case when c.is_nullable = 'YES' then 1 else 0 end as nullable,
    coalesce(c.numeric_precision, 0) as digits,
    coalesce(c.numeric_scale, 0) as scale,
    coalesce(c.datetime_precision, 0) as fraction,
    coalesce(nullif(c.character_octet_length, -1), 0) as octets
from information_schema.columns as c
where c.table_schema = {schema} and c.table_name = {table}
order by c.ordinal_position
"""

DIALECTS: dict[Engine, Dialect] = {
    "mysql": Dialect(
        "mysql",
        begin=(
            "set session transaction isolation level repeatable read",
            "start transaction with consistent snapshot, read only",
        ),
        # Before any clock is read: ages of transactions are in local time, in which an hour repeats in autumn.
        session=("set session time_zone = '+00:00', character_set_results = utf8mb4",),
        clock="select cast(utc_timestamp(6) as char(26)) as now",
        # Read-only transactions are readers, including ours; a row of innodb_trx is up to 0.1 s old.
        oldest="select cast(utc_timestamp(6) as char(26)) as now, cast(timestampdiff(microsecond, min(trx_started), "
        "now(6)) as signed) as age from information_schema.innodb_trx where trx_is_read_only = 0",
        caution="select cast(@@read_only as signed) as replica",
        # Connector/ODBC before 3.1.17, as in Debian 12, fetches the full result before it returns the first row.
        chunked=True,
    ),
    # One writer at a time: rows outside of the snapshot were written after all rows in it.
    "sqlite": Dialect("sqlite", begin=()),
    "mssql": Dialect(
        "mssql",
        begin=("set transaction isolation level snapshot", "begin transaction"),
        clock="select convert(varchar(33), sysutcdatetime(), 121) as now",
        oldest="select convert(varchar(33), sysutcdatetime(), 121) as now, datediff_big(microsecond, "
        "min(transaction_begin_time), sysdatetime()) as age from sys.dm_tran_active_transactions "
        "where transaction_type in (1, 4)",
        caution="select case when databasepropertyex(db_name(), 'Updateability') = 'READ_ONLY' then 1 else 0 end "
        "as replica",
    ),
}
