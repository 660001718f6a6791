"""The page of all tables: source, strategy, schedule, and raw table."""

from collections.abc import Sequence

from flows.declare import Overwrite, Replace, TransactionId
from flows.declare import Sequence as SequenceCursor
from flows.declare.promises import Limits, freshness_of, limits_of
from flows.declare.rule import Tolerance
from flows.declare.source import Loadable, Source
from flows.kinds.registry import kind_of

_HEAD = """<!-- rendered by `medallion render`; do not edit -->
# Every table

One line per table, from the declarations in `flows/sources`. Each row in raw also carries `_extracted_at`,
`_source_system`, `_batch_id` and `_deleted_at`.
"""
_COLUMNS = ("table", "one row is", "key", "load", "cursor", "deletes", "rules", "raw")


def shape_page(sources: Sequence[Source]) -> str:
    """The text of docs/shape.md."""
    return "\n".join([_HEAD, *(_source(source) for source in sources)])


def _source(source: Source) -> str:
    facts = [
        f"- {kind_of(source).describe(source)}, {_address(source)}",
        f"- schedule: `{source.schedule}` (UTC)" if source.schedule else "- schedule: none, loaded on demand",
        f"- at most {source.max_parallel} tables in parallel",
    ]
    limits = limits_of(source)
    if limits is not None:
        facts.append(f"- freshness: {_limits(limits)}")
    for table in source.tables:
        own = limits_of(source, table)
        if own is not None and own != limits:
            facts.append(f"- freshness of `{table.name}`: {_limits(own)}")
    facts += _deadlines(source)
    lines = [f"| {' | '.join(_COLUMNS)} |", "|" + " --- |" * len(_COLUMNS)]
    lines += [_line(source, table) for table in source.tables]
    rules = [
        f"- `{table.name}`: **{rule.name}**, `{rule.condition}`; the load stops if more than "
        f"{table.max_quarantined:.1%} of the rows read break a rule" + _floor(table.tolerance)
        for table in source.tables
        for rule in table.rules
    ]
    parts = [f"## {source.name}", "", source.description, "", *facts, "", *lines, ""]
    if rules:
        parts += ["Row checks on load:", "", *rules, ""]
    return "\n".join(parts)


def _limits(limits: Limits) -> str:
    return f"a warning after {limits.warn_hours} h without a load, the gate fails after {limits.stop_hours} h"


def _deadlines(source: Source) -> list[str]:
    """The tables of each deadline."""
    due: dict[str, list[str]] = {}
    for table in source.tables:
        if (deadline := freshness_of(source, table).expected_by) is not None:
            due.setdefault(str(deadline), []).append(f"`{table.name}`")
    return [f"- expected by `{deadline}`: {', '.join(names)}" for deadline, names in due.items()]


def _address(source: Source) -> str:
    if source.connection is None:
        return "configured in dlt's own configuration"
    variable = f"MEDALLION_SOURCE_{source.connection.upper()}_URL"
    return f"connection URL in `{variable}` or the block `source-{source.connection}`"


def _floor(tolerance: Tolerance) -> str:
    few = tolerance.max_quarantined and tolerance.quarantine_floor
    return f", in a small read more than {tolerance.quarantine_floor} rows" if few else ""


def _line(source: Source, table: Loadable) -> str:
    own = kind_of(source).words(table)
    cells = (
        own.name if own.name is not None else table.name,
        table.description.removeprefix("One row per ").removeprefix("One record per ").rstrip(".") or "",
        own.key if own.key is not None else ", ".join(table.keys),
        own.load if own.load is not None else _load(table),
        own.cursor if own.cursor is not None else _cursor(table),
        own.deletes if own.deletes is not None else _deletes(table),
        ", ".join(rule.name for rule in table.rules) or "",
        f"`{source.raw_schema}.{table.name}`",
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _load(table: Loadable) -> str:
    return f"overwrite {table.load}" if isinstance(table.load, Overwrite) else type(table.load).__name__.lower()


def _cursor(table: Loadable) -> str:
    match table.cursor:
        case None:
            return ""
        case TransactionId():
            return "transaction id"
        case SequenceCursor() as cursor:
            return cursor.column + (f", lag {cursor.lag}" if cursor.lag else "")
        case cursor:
            return str(cursor.column) + (f", lag {cursor.lag}" if cursor.overlap else "")


def _deletes(table: Loadable) -> str:
    """How raw handles a row deleted at the source."""
    if isinstance(table.load, Replace):
        return "removed from raw"
    if isinstance(table.load, Overwrite):
        return "removed from raw, in overwritten partitions"
    return "marked" if table.deletes else "not detected"
