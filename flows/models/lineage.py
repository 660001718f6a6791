"""Column lineage: the upstream columns of each column of a model, from the SQL that dbt compiled.

    columns = Lineage(manifest)
    columns.parents("model.medallion.agg_daily_sales", "sales_value")
        → {("model.medallion.fct_basket_lines", "sales_value")}
    columns.origins("model.medallion.agg_daily_sales", "sales_value")
        → {("source.medallion.shop.basket_items", "sales_value")}

Only columns that a value is computed from count, not those of filters and joins. A column that the SQL does not
explain has no parents and is in `unexplained`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.lineage import Node, lineage
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope, traverse_scope
from sqlglot.schema import MappingSchema

from flows.models.manifest import Manifest, Relation

Column = tuple[str, str]
_DIALECT = "postgres"
# sqlglot warns of each part of a query that it cannot explain; those columns have no parents here.
logging.getLogger("sqlglot").setLevel(logging.ERROR)


class Lineage:
    """The lineage of a manifest's columns. Models are parsed on demand, each once.

    `compiled` replaces the manifest's SQL by unique id, for models compiled since.
    """

    def __init__(self, manifest: Manifest, compiled: Mapping[str, str] | None = None) -> None:
        self._manifest = manifest
        self._compiled = compiled or {}
        self._read: dict[str, dict[str, frozenset[Column]]] = {}
        self._origins: dict[Column, frozenset[Column]] = {}
        # Parents of which a column shows only whether they are null, by model and column.
        self._only_tested: dict[str, dict[str, frozenset[Column]]] = {}
        #: Models whose SQL could not be read, with the reason.
        self.unread: dict[str, str] = {}

    def columns(self, unique_id: str) -> dict[str, frozenset[Column]]:
        """Each column of a relation with the columns of its parents that it is computed from, in the SQL's order."""
        if unique_id not in self._read:
            self._read[unique_id] = self._columns(self._manifest.relations[unique_id])
        return self._read[unique_id]

    def parents(self, unique_id: str, column: str) -> frozenset[Column]:
        """The columns of other relations that a column is computed from."""
        return self.columns(unique_id).get(column, frozenset())

    def origins(self, unique_id: str, column: str) -> frozenset[Column]:
        """Its origins: columns of sources and seeds."""
        key = (unique_id, column)
        if key not in self._origins:
            self._origins[key] = frozenset()  # a model that reads itself ends here
            if self._manifest.relations[unique_id].kind in {"source", "seed"}:
                self._origins[key] = frozenset({key})
            else:
                found = (self.origins(*parent) for parent in self.parents(unique_id, column))
                self._origins[key] = frozenset().union(*found)
        return self._origins[key]

    def personal(self, unique_id: str) -> frozenset[str]:
        """The columns that are tagged personal or are computed from one that is, however far upstream.

        Whether a value exists, `email is not null`, is not personal. If a model's SQL cannot be parsed, all its columns
        count as personal.
        """
        names = {*self.columns(unique_id), *self._manifest.relations[unique_id].columns}
        return frozenset(name for name in names if self._is_personal((unique_id, name), set()))

    def impersonal(self, unique_id: str) -> frozenset[str]:
        """The columns whose origins are all known and not personal."""
        return frozenset(self.columns(unique_id)) - self.personal(unique_id)

    def _is_personal(self, column: Column, seen: set[Column]) -> bool:
        if column in seen:
            return False
        seen.add(column)
        unique_id, name = column
        parents = self.parents(unique_id, name) - self._only_tested.get(unique_id, {}).get(name, frozenset())
        if unique_id in self.unread or name in self._manifest.relations[unique_id].personal:
            return True
        return any(self._is_personal(parent, seen) for parent in parents)

    def _columns(self, relation: Relation) -> dict[str, frozenset[Column]]:
        if relation.kind in {"source", "seed"}:
            return {name: frozenset() for name in relation.columns}
        if relation.kind == "snapshot":
            return self._of_snapshot(relation)
        sql = self._compiled.get(relation.unique_id) or relation.compiled
        if not sql:
            self.unread[relation.unique_id] = "it was never compiled"
            return {name: frozenset() for name in relation.columns}
        try:
            return self._of_query(sql, relation)
        except (SqlglotError, ValueError, RecursionError) as problem:
            self.unread[relation.unique_id] = f"{type(problem).__name__} while reading its SQL"
            return {name: frozenset() for name in relation.columns}

    def _of_snapshot(self, relation: Relation) -> dict[str, frozenset[Column]]:
        """A snapshot has its parent's columns, and dbt's own, which have no parents."""
        (parent,) = relation.parents
        columns = {name: frozenset({(parent, name)}) for name in self._names(parent)}
        own = ("dbt_scd_id", "dbt_updated_at", "dbt_valid_from", "dbt_valid_to", "dbt_is_deleted")
        return columns | {name: frozenset() for name in own}

    def _names(self, unique_id: str) -> list[str]:
        """The columns of a parent: from its SQL, else from its descriptions."""
        relation = self._manifest.relations[unique_id]
        return list(relation.columns) if relation.kind in {"source", "seed"} else list(self.columns(unique_id))

    def _of_query(self, sql: str, relation: Relation) -> dict[str, frozenset[Column]]:
        parents = {
            self._table_name(self._manifest.relations[parent]): parent
            for parent in relation.parents
            if parent in self._manifest.relations
        }
        query = sqlglot.parse_one(sql, read=_DIALECT)
        # A private build reads some parents from the shared schemas, some from its own: names distinguish them.
        by_identifier = {name.rpartition(".")[2]: parent for name, parent in parents.items()}
        for table in query.find_all(exp.Table):
            if table.args.get("db") is not None:
                parent = parents.get(f"{table.db}.{table.name}") or by_identifier.get(table.name)
                if parent is not None:
                    known = self._table_name(self._manifest.relations[parent])
                    table.set("db", exp.to_identifier(known.partition(".")[0]))
            table.set("catalog", None)
        # A source describes its keys only; other columns named in the query are assumed to exist.
        named = {column.name for column in query.find_all(exp.Column)}
        tables: dict[str, Any] = {}
        for address, parent in parents.items():
            db, _, name = address.partition(".")
            extra = named if self._manifest.relations[parent].kind == "source" else set()
            tables.setdefault(db, {})[name] = dict.fromkeys([*self._names(parent), *sorted(extra)], "text")
        schema = MappingSchema(tables, dialect=_DIALECT)
        qualified = qualify(query, dialect=_DIALECT, schema=schema, validate_qualify_columns=False, identify=False)
        for scope in traverse_scope(qualified):
            _spell_out_rows(scope)
        root = build_scope(qualified)
        found = lineage(None, qualified, schema, dialect=_DIALECT, scope=root, trim_selects=False, copy=False)
        self._only_tested[relation.unique_id] = {
            name: _leaves(node, parents) - _leaves(node, parents, through_null_tests=False)
            for name, node in found.items()
        }
        return {name: _leaves(node, parents) for name, node in found.items()}

    @staticmethod
    def _table_name(relation: Relation) -> str:
        return f"{relation.schema}.{relation.identifier}"

    @cached_property
    def described(self) -> dict[str, dict[str, frozenset[Column]]]:
        """Every relation's columns with their parents."""
        return {unique_id: self.columns(unique_id) for unique_id in self._manifest.relations}


def _spell_out_rows(scope: Scope) -> None:
    """Expand a row reference: `to_jsonb(judged) - array['rank']` reads all columns of `judged` except rank."""
    for row in scope.find_all(exp.TableColumn):
        source = scope.sources.get(row.name)
        if not isinstance(source, Scope):
            continue
        taken_out = set()
        difference = row.find_ancestor(exp.Sub)
        if difference is not None:
            taken_out = {literal.name for literal in difference.expression.find_all(exp.Literal)}
        query = source.expression
        selected = query.named_selects if isinstance(query, exp.Query) else []
        names = [name for name in selected if name not in {"*", *taken_out}]
        row.replace(exp.Tuple(expressions=[exp.column(name, table=row.name) for name in names]))


def _leaves(root: Node, parents: Mapping[str, str], *, through_null_tests: bool = True) -> frozenset[Column]:
    """The columns of other relations at the ends of a column's lineage."""
    found, seen, waiting = set(), set(), [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen or (not through_null_tests and _is_null_test(node.expression)):
            continue
        seen.add(id(node))
        waiting += node.downstream
        if isinstance(node.expression, exp.Table):
            table = node.expression
            parent = parents.get(f"{table.db}.{table.name}")
            name = node.name.rpartition(".")[2]
            if parent is not None and name != "*":
                found.add((parent, name.strip('"')))
    return frozenset(found)


def _is_null_test(expression: exp.Expr) -> bool:
    while isinstance(expression, exp.Alias | exp.Paren | exp.Not):
        expression = expression.this
    return isinstance(expression, exp.Is) and isinstance(expression.expression, exp.Null)
