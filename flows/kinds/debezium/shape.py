"""Raw's columns of a table of events: declared ones, those that raw has, and those that the events have."""

from __future__ import annotations

from collections.abc import Mapping

from flows.kinds.debezium.declared import OFFSET, PARTITION, EventTable, reserved
from flows.values.errors import SourceError
from flows.values.identifiers import quote_identifier
from flows.values.shape import METADATA_NAMES, Column, Shape


def shape_of(table: EventTable, seen: Mapping[str, str], raw: Mapping[str, str] | None, where: str) -> Shape:
    """The columns. `seen` are those of the events of this commit by their types; `raw` is None before the first load.

    A column that events no longer have stays, with its last values.

    Raises:
        SourceError: the key's type is not known, or raw cannot have a column of the events.
    """
    own = (*METADATA_NAMES, PARTITION, OFFSET)
    types = {name: kind for name, kind in (raw or {}).items() if name not in own}
    types |= dict(seen)
    declared = table.types
    types |= {name: kind for name, kind in declared.items() if name in types or raw is None}
    if unknown := [name for name in table.keys if name not in types]:
        raise SourceError(
            f"no event of topic {table.topic} tells the type of {', '.join(unknown)}",
            where=where,
            fix="check topic and match in the declaration, and that key names columns of the table; or declare its "
            f'type: columns={{"{unknown[0]}": "bigint"}}',
        )
    if bad := [name for name in types if reserved(name)]:
        raise SourceError(
            f"raw cannot have a column {bad[0]!r}: the name is reserved, empty or longer than 63 bytes",
            where=where,
            fix="rename it in the connector with a transform",
        )
    columns = [
        Column(name, kind, quote_identifier(name), nullable=name not in table.keys) for name, kind in types.items()
    ]
    columns.append(Column(PARTITION, "integer", PARTITION, compared=False))
    columns.append(Column(OFFSET, "bigint", OFFSET, compared=False))
    return Shape(tuple(columns))
