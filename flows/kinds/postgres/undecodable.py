"""Rows with bytes that are no UTF-8, which databases in the encoding SQL_ASCII may have: they go to quarantine.

Such a database checks nothing, and PostgreSQL would refuse the full read for one byte. In any other encoding, texts are
converted, and this costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.declare.table import Table
from flows.quality.quarantine import Unreadable
from flows.values.errors import DataRefused
from flows.values.identifiers import quote_literal
from flows.values.shape import Column, Shape

if TYPE_CHECKING:
    from asyncpg import Connection, Record

UNCHECKED = "SQL_ASCII"
_RULE = "text_is_not_utf8"
# These are kept as text, one by one. More are a database of another encoding, not single damaged rows.
_MOST = 1_000

# The Unicode Standard, table 3-7: well-formed byte sequences of UTF-8. In SQL_ASCII, each byte is a character.
_UTF8 = (
    r"^([\x01-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    r"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})*$"
)
_TEXTS = ("text", "character", "name", '"char"', "json", "tsvector", "tsquery", "xml")


def undecodable(columns: Sequence[Column]) -> str:
    """SQL over the source table: a text of the row is no UTF-8; empty if no column can have one."""
    pattern = quote_literal(_UTF8)
    return " or ".join(
        f'coalesce(({column.select})::text collate "C" !~ {pattern}, false)'
        for column in columns
        if column.enum is not None or column.raw_type.startswith(_TEXTS)
    )


async def read_undecodable(
    origin: Connection[Record], table: Table, shape: Shape, condition: str, where: str
) -> tuple[Unreadable, ...]:
    """The rows under the condition that have such a text, with escapes for what is no UTF-8.

    Raises:
        DataRefused: there are many, so that the database has another encoding.
    """
    if not shape.undecodable:
        return ()
    selected = ", ".join(f"convert_to(({column.select})::text, '{UNCHECKED}')" for column in shape.columns)
    records = await origin.fetch(
        f"select array[{selected}] as texts from {table.relation} "
        f"where ({table.within(condition)}) and ({shape.undecodable}) limit {_MOST + 1}"
    )
    if len(records) > _MOST:
        raise DataRefused(
            f"more than {_MOST} rows have text that is not UTF-8, in a database of the encoding {UNCHECKED}",
            where=where,
            fix="convert the texts at the source, or declare a view that does: convert_from(column::bytea, 'LATIN1')",
        )
    return tuple(_unreadable(table, shape, record["texts"]) for record in records)


def _unreadable(table: Table, shape: Shape, texts: Sequence[bytes | None]) -> Unreadable:
    values = {
        name: None if text is None else text.decode("utf-8", errors="backslashreplace")
        for name, text in zip(shape.names, texts, strict=True)
    }
    return Unreadable(_RULE, json.dumps(values, ensure_ascii=False), tuple(values[key] for key in table.keys))
