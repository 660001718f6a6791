"""Count and delete a subject's rows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.declare.subject import Subject
from flows.privacy.places import TEXTS, Place
from flows.privacy.references import Traces, condition, somebody_else
from flows.values.identifiers import quote_identifier, quote_literal

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: The erasure log itself, and tables with counts only: neither contains data of subjects.
NOT_SEARCHED = frozenset(("ops.erasures", "ops.schema_version"))
#: Rows without a key, which can be identified by their words only; in private and shadow schemas too.
_DOORS = ("quarantine", "landing", "silver_quarantine", "test_failures")
ERASED = "[erased]"


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of one table."""

    place: Place
    rows: int


async def count_rows(
    connection: Connection[Record], places: list[Place], subject: Subject, traces: Traces
) -> list[Found]:
    """The number of the subject's rows per table, for tables with any."""
    found = []
    for place in places:
        where, arguments = condition(place, subject, traces)
        if where and place.readable:
            rows = await connection.fetchval(f"select count(*) from {place.relation} as t where {where}", *arguments)
            found += [Found(place, rows)] if rows else []
    return found


async def delete_rows(
    connection: Connection[Record], places: list[Place], subject: Subject, traces: Traces
) -> list[Found]:
    """Delete the subject's rows from the tables, which the connection's role owns. Within the caller's transaction."""
    gone = []
    for place in places:
        if place.told in NOT_SEARCHED or place.derived:
            continue
        where, arguments = condition(place, subject, traces)
        rows = 0
        if where:
            rows = _affected(await connection.execute(f"delete from {place.relation} as t where {where}", *arguments))
        if place.schema.endswith(_DOORS) and traces.words and place.wordy:
            tells, aside = _tells(place), somebody_else(place, subject)
            rows += _affected(
                await connection.execute(
                    f"delete from {place.relation} as t where ({tells}) and not ({aside})",
                    [as_pattern(word) for word in traces.words],
                )
            )
        if place.schema == "ops":
            rows += await _unword(connection, place, subject, traces)
        gone += [Found(place, rows)] if rows else []
    # Their inputs no longer contain the subject, except raw: a view that reads raw, or another view, is reported by
    # the search, and is clean when the command is run again.
    for place in places:
        if place.derived:
            await connection.execute(f"refresh materialized view {place.relation}")
    return gone


async def _unword(connection: Connection[Record], place: Place, subject: Subject, traces: Traces) -> int:
    """Remove the subject's words from texts of operations, and keys from lists of keys. The rows are kept."""
    changed = 0
    for column in place.columns:
        if column in TEXTS.get(place.told, ()):
            name = f"t.{quote_identifier(column)}"
            for word in traces.words:
                changed += _affected(
                    await connection.execute(
                        f"update {place.relation} as t set {quote_identifier(column)} = "
                        # ***= makes the rest a literal.
                        f"regexp_replace({name}, '***=' || $1, {quote_literal(ERASED)}, 'gi') "
                        f"where position(lower($1) in lower({name})) > 0",
                        word,
                    )
                )
        if (place.told, column) == ("ops.reconciliations", "keys"):
            changed += _affected(
                await connection.execute(
                    f"update {place.relation} as t set keys = '{{}}' where exists (select "
                    'from jsonb_path_query(t.keys, \'$.** ? (@.type() == "string" || @.type() == "number")\') as v '
                    "where v #>> '{}' = any($1::text[]))",
                    [value for values in traces.values.values() for value in values],
                )
            )
        if (place.told, column) == ("ops.list_reads", "gathered") and traces.words:
            # Records landed after the place are deleted with landing; the list starts over.
            changed += _affected(
                await connection.execute(
                    "update ops.list_reads as t set gathered = null, place = null, etag = null "
                    f"where {holds(['gathered', 'place'])}",
                    traces.words,
                )
            )
    return changed


def holds(columns: list[str], parameter: str = "$1") -> str:
    """SQL: one of the words of the parameter occurs in one of the columns, ignoring case."""
    text = " || ' ' || ".join(f"coalesce(t.{quote_identifier(name)}::text, '')" for name in columns)
    # The patterns once per query, and the text in lower case once per row: a subquery per row took ten times as long.
    patterns = "'%' || regexp_replace(lower(w), '([\\\\%_])', '\\\\\\1', 'g') || '%'"
    return f"lower({text}) like any((select array_agg({patterns}) from unnest({parameter}::text[]) as w)::text[])"


def _tells(place: Place) -> str:
    """SQL: a value in the row matches one of the patterns of $1. Field names of documents are not values."""
    values = [
        f"exists (select from jsonb_path_query({place.document(name)}, 'strict $.**', silent => true) as v "
        "where jsonb_typeof(v) in ('string', 'number') and v #>> '{}' ~* any($1::text[]))"
        for name in place.wordy
        if name in place.documents
    ]
    values += [
        f"t.{quote_identifier(name)}::text ~* any($1::text[])" for name in place.wordy if name not in place.documents
    ]
    return " or ".join(values) or "false"


def as_pattern(word: str) -> str:
    """A regular expression: the word with word boundaries; a word of letters only must be the full value, since it
    is the least specific: the name Anna must not match Anna Karenina and Susanna."""
    escaped = re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", word)
    return rf"^\s*{escaped}\s*$" if word.isalpha() else rf"(^|[^[:alnum:]]){escaped}([^[:alnum:]]|$)"


def _affected(status: str) -> int:
    return int(status.rsplit(" ", 1)[-1])
