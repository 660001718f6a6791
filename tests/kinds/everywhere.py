"""Where a text stands in a warehouse: every table of every schema, the catalogue and its statistics too."""

from __future__ import annotations

import psycopg
from psycopg import sql

from tests.conftest import TestDatabase


def tables_with(warehouse: TestDatabase, text: str) -> list[str]:
    """The tables with a row that contains the text."""
    found = []
    with psycopg.connect(warehouse.url("admin"), autocommit=True) as connection:
        relations = connection.execute(
            "select oid::regclass::text, relnamespace::regnamespace::text, relname from pg_class "
            "where relkind in ('r', 'p', 'm') and relname <> 'pg_largeobject'"
        ).fetchall()
        for shown, schema, name in relations:
            query = sql.SQL("select exists (select from {} as t where strpos(t::text, {}) > 0)").format(
                sql.Identifier(schema, name), sql.Literal(text)
            )
            if connection.execute(query).fetchone() == (True,):
                found.append(shown)
    return sorted(found)
