"""The page of all tables: what is read, how, how often, and where it lands."""

from collections.abc import Sequence

from flows.declare import Append, Merge, Overwrite, Replace, TransactionId
from flows.declare import Sequence as SequenceCursor
from flows.declare.rule import Tolerance
from flows.kinds.api import Api, ChangeToken
from flows.kinds.declared import Loadable, Source
from flows.kinds.dlt import DltSource, Resource
from flows.render.freshness import freshness

_HEAD = """<!-- rendered by `medallion render`; do not edit -->
# Every table

One line a table, from the declarations in `flows/sources`. Each row in raw also carries `_extracted_at`,
`_source_system`, `_batch_id` and `_deleted_at`.
"""
_ENGINES = {
    "postgresql": "PostgreSQL",
    "mysql": "MySQL or MariaDB",
    "sqlite": "SQLite",
    "mssql": "SQL Server",
}
_COLUMNS = ("table", "one row is", "key", "load", "cursor", "deletes", "rules", "raw")


def shape_page(sources: Sequence[Source]) -> str:
    """The text of docs/shape.md."""
    return "\n".join([_HEAD, *(_source(source) for source in sources)])


def _source(source: Source) -> str:
    facts = [
        f"- {_kind(source)}, {_address(source)}",
        f"- schedule: `{source.schedule}` (UTC)" if source.schedule else "- schedule: none, read on demand",
        f"- at most {source.max_parallel} tables at one time",
    ]
    limits = freshness(source)
    if limits is not None:
        facts.append(
            f"- stale: a warning after {limits.warn_hours} h without a load, the gate closes after "
            f"{limits.stop_hours} h"
        )
    lines = [f"| {' | '.join(_COLUMNS)} |", "|" + " --- |" * len(_COLUMNS)]
    lines += [_line(source, table) for table in source.tables]
    rules = [
        f"- `{table.name}`: **{rule.name}**, `{rule.condition}`; the load stops when more than "
        f"{table.max_quarantined:.1%} of a read break a rule" + _floor(table.tolerance)
        for table in source.tables
        for rule in table.rules
    ]
    parts = [f"## {source.name}", "", source.description, "", *facts, "", *lines, ""]
    if rules:
        parts += ["Rules at the door:", "", *rules, ""]
    return "\n".join(parts)


def _kind(source: Source) -> str:
    if isinstance(source, DltSource):
        return f"dlt source `{source.build}`"
    return "API" if isinstance(source, Api) else f"{_ENGINES[source.engine]} database"


def _address(source: Source) -> str:
    if source.connection is None:
        return "configured where dlt looks for it"
    return f"address in `MEDALLION_SOURCE_{source.connection.upper()}_URL` or the block `source-{source.connection}`"


def _floor(tolerance: Tolerance) -> str:
    few = tolerance.max_quarantined and tolerance.quarantine_floor
    return f", in a small read more than {tolerance.quarantine_floor} rows" if few else ""


def _line(source: Source, table: Loadable) -> str:
    cells = (
        table.name,
        table.description.removeprefix("One row per ").removeprefix("One record per ").rstrip(".") or "",
        ", ".join(table.keys) or ("as the resource says" if isinstance(table, Resource) else ""),
        _load(table),
        _cursor(table),
        _deletes(table),
        ", ".join(rule.name for rule in table.rules) or "",
        f"`{source.raw_schema}.{table.name}`",
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _load(table: Loadable) -> str:
    match table.load:
        case Replace():
            return "replace"
        case Append():
            return "append"
        case Merge():
            return "merge"
        case Overwrite() as load:
            return f"overwrite {load}"
        case None:
            return "as the resource says"


def _cursor(table: Loadable) -> str:
    cursor = table.cursor
    if cursor is None or isinstance(cursor, str):
        return cursor or ""
    if isinstance(cursor, ChangeToken):
        return "change token"
    if isinstance(cursor, TransactionId):
        return "transaction id"
    if isinstance(cursor, SequenceCursor):
        return cursor.column + (f", lag {cursor.lag}" if cursor.lag else "")
    name = cursor.column
    return name + (f", lag {cursor.lag}" if cursor.overlap else "")


def _deletes(table: Loadable) -> str:
    """What happens in raw to a row that is gone from the source."""
    if isinstance(table.load, Replace):
        return "leave raw"
    if isinstance(table.load, Overwrite):
        return "leave raw, of partitions that are read"
    if isinstance(table, Resource) and (table.deleted is not None or table.load is None):
        return f"marked by `{table.deleted}`" if table.deleted is not None else "as the resource says"
    return "marked" if table.deletes else "not noticed"
