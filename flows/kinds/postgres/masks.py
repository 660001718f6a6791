"""Hashes and masks computed by the source, so that no value of a masked column leaves it.

A hash is HMAC-SHA256. The key's two pads are settings of the reading transaction, sent as parameters: they are in no
statement's text, so neither in `pg_stat_activity` nor in `pg_stat_statements`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flows.access.mask_key import mask_key
from flows.declare.mask import Hashed, Mask
from flows.declare.table import Table
from flows.kinds.postgres.undecodable import UNCHECKED
from flows.values.errors import SourceError
from flows.values.identifiers import quote_literal
from flows.values.shape import Column

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_INNER, _OUTER = "medallion.mask_inner", "medallion.mask_outer"
# sha256() is a function of PostgreSQL 11 and later.
_SINCE = 11
# Of a character in UTF-8, all bytes but its first.
_LATER_BYTES = r"'[\x80-\xbf]'"


async def give_key(connection: Connection[Record], table: Table) -> None:
    """Give the key to this transaction at the source, if a column of the table is hashed.

    Raises:
        ConfigurationError: the key is not configured.
    """
    if not table.hashes:
        return
    # As JSON: a setting that a transaction has left behind is an empty text, which is none, and the query fails.
    inner, outer = (f'["{pad.hex()}"]' for pad in mask_key().pads)
    await connection.execute(
        f"select set_config({quote_literal(_INNER)}, $1, true), set_config({quote_literal(_OUTER)}, $2, true)",
        inner,
        outer,
    )


def refuse_old_server(connection: Connection[Record], table: Table, where: str) -> None:
    """Raises:
    SourceError: the server cannot hash.
    """
    if table.hashes and (version := connection.get_server_version().major) < _SINCE:
        raise SourceError(
            f"a column is declared as hashed, and PostgreSQL {version} has no sha256()",
            where=where,
            fix=f"upgrade the source to PostgreSQL {_SINCE} or later, or leave the column out: exclude=(…)",
        )


def masked(column: Column, mask: Mask, encoding: str) -> Column:
    """The column as it is loaded: text, made from the text that raw would have otherwise."""
    text = f"({column.select})::text"
    match mask:
        case Hashed():
            # Of a database without encoding, the bytes as they are: of texts in UTF-8 they are the same.
            octets = f"convert_to({text}, {quote_literal(UNCHECKED if encoding == UNCHECKED else 'UTF8')})"
            select = f"encode(sha256({_pad(_OUTER)} || sha256({_pad(_INNER)} || {octets})), 'hex')"
        case _:
            length, kept = f"char_length({text})", f"right({text}, {mask.keep})"
            if encoding == UNCHECKED:
                length, kept = _characters(text), _last_characters(text, mask.keep)
            kept = kept if mask.keep else "''"
            select = (
                f"'***' || case when {length} >= {max(1, 2 * mask.keep)} then {kept} "
                f"when {text} is not null then '' end"
            )
    return replace(column, raw_type="text", select=f"({select})", enum=None, labels=())


def _characters(text: str) -> str:
    """The length of a text in UTF-8 in a database without encoding, which counts bytes: those that begin one."""
    return f"char_length(regexp_replace(({text}) collate \"C\", {_LATER_BYTES}, '', 'g'))"


def _last_characters(text: str, count: int) -> str:
    """Its last characters. A part of one would be no UTF-8, and its row be refused."""
    return f"substring(({text}) collate \"C\" from '((?:[^\\x80-\\xbf][\\x80-\\xbf]*){{{count}}})$')"


def _pad(name: str) -> str:
    # A subquery is computed once, not for every row.
    return f"(select decode(current_setting({quote_literal(name)})::jsonb ->> 0, 'hex'))"
