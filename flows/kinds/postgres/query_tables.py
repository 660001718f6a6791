"""The tables that a query names, from its text: for lineage, which must not ask the source."""

from __future__ import annotations

from flows.declare.table import Table


def tables_named(table: Table) -> list[tuple[str, str]]:
    """Schema and name of each, in order; none for a query that is not understood, which says nothing against it."""
    import sqlglot  # takes a third of a second
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.scope import traverse_scope

    try:
        scopes = traverse_scope(sqlglot.parse_one(table.query, dialect="postgres"))
    except SqlglotError:
        return []
    found = {
        (source.db or "public", source.name)
        for scope in scopes
        for source in scope.sources.values()
        if isinstance(source, exp.Table) and source.name
    }
    return sorted(found)
