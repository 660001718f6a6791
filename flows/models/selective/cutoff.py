"""Stopping early: what follows from a model whose rows a build left as they were need not be built.

dbt decides before it starts what it runs. So each node is asked about again when its turn comes, in dbt's own thread:
by then its parents have been built, and whether their rows are the same is known, not guessed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from flows.models.selective.decision import Decision
from flows.models.selective.nodes import Node
from flows.values.correlation import application_name

# 64 MB are hashed in about a second. A larger relation may hold the same rows; what follows from it is built.
_HASHED_BYTES = 64 * 2**20
# Of tables that are changed in place, the places and writers of rows suffice: 1.5 million in 0.5 s.
_VERSIONS_BYTES = 1024 * 2**20
_IN_PLACE = frozenset({"incremental", "snapshot", "seed"})
_LEFT = "its inputs have the same rows as before"


@dataclass
class Cutoff:
    """What a build has done so far: `positions` of the nodes it has built, and those it `left` as they were."""

    decision: Decision
    run_id: int
    url: str
    positions: dict[str, str] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def leaves(self, unique_id: str) -> bool:
        """Whether the node, whose parents have been built, is left as it is."""
        with self._lock:
            if not self.decision.is_unneeded(unique_id, self.positions, self.left):
                return False
            self.left.add(unique_id)
            return True

    def before(self, unique_id: str) -> str | None:
        """What to compare the node with after it was built; None if nothing follows that could be left."""
        if not self._is_followed(unique_id) or not self.decision.is_intact(unique_id):
            return None
        return self._content(self.decision.project.nodes[unique_id])

    def built(self, unique_id: str, before: str | None) -> None:
        """Record that a node was built, and whether that has changed its rows."""
        node = self.decision.project.nodes.get(unique_id)
        if node is None:
            return
        same = before is not None and self._content(node) == before
        with self._lock:
            self.positions[unique_id] = self.decision.built[unique_id].position if same else str(self.run_id)

    def _is_followed(self, unique_id: str) -> bool:
        """Whether a node that may be left reads this one, also through views."""
        waiting, seen = [unique_id], {unique_id}
        while waiting:
            name = waiting.pop()
            for other in self.decision.project.nodes.values():
                if name not in other.inputs or other.unique_id in seen:
                    continue
                if other.unique_id in self.decision.derived and not other.is_view:
                    return True
                seen.add(other.unique_id)
                waiting += [other.unique_id] if other.is_view else []
        return False

    def _content(self, node: Node) -> str | None:
        in_place = node.kind in _IN_PLACE or node.materialized in _IN_PLACE
        return content_of(self.url, node.schema, node.identifier, in_place=in_place)


def content_of(url: str, schema: str, name: str, *, in_place: bool = False) -> str | None:
    """A hash of a table's columns and rows; None if it would take too long.

    `in_place`: of the places and writers of rows instead.
    """
    relation = sql.Identifier(schema, name)
    with psycopg.connect(url, autocommit=True, application_name=application_name("medallion")) as session:
        found = session.execute(_DESCRIBED, [relation.as_string()]).fetchone()
        if found is None or found[0] not in ("r", "m"):
            return None
        _, size, shape, place = found
        if in_place:
            if size > _VERSIONS_BYTES:
                return None
            rows = session.execute(sql.SQL(_VERSIONS).format(relation)).fetchone()
            return f"{place}|{shape}|{rows}"
        if size > _HASHED_BYTES:
            return None
        session.execute(_PRINTED)
        return f"{shape}|{session.execute(sql.SQL(_ROWS).format(relation)).fetchone()}"


_DESCRIBED = """
select
    relkind::text,
    pg_table_size(oid),
    (
        select md5(string_agg(
            concat_ws(' ', attname, format_type(atttypid, atttypmod), attcollation), ',' order by attnum
        ))
        from pg_attribute
        where attrelid = pg_class.oid and attnum > 0 and not attisdropped
    ),
    oid::text || '.' || relfilenode
from pg_class
where oid = to_regclass(%s)
"""
_VERSIONS = "select count(*), sum(hashtextextended(ctid::text || '/' || xmin::text, 0)::numeric) from {}"
# `whole.*` is the row, also of a table with a column of that name.
_ROWS = (
    "select count(*), sum(hashtextextended((whole.*)::text, 0)::numeric), "
    "sum(hashtextextended((whole.*)::text, 1)::numeric) from {} as whole"
)
# No setting of the role may print different values as the same text, or the same values as another.
_PRINTED = (
    "set extra_float_digits = 3; set datestyle = 'ISO, YMD'; set timezone = 'UTC'; set intervalstyle = 'postgres'; "
    "set bytea_output = 'hex'"
)


@contextmanager
def cutting_off(cutoff: Cutoff | None) -> Iterator[None]:
    """Within this context, dbt asks the cutoff before each node it runs, and tells it after. One at a time."""
    if cutoff is None or not cutoff.decision.derived:
        yield
        return
    from dbt.artifacts.schemas.results import NodeStatus
    from dbt.task.runnable import GraphRunnableTask

    call_runner: Any = GraphRunnableTask.call_runner

    def asked(task: Any, runner: Any, *arguments: Any, **options: Any) -> Any:
        unique_id = runner.node.unique_id
        if cutoff.leaves(unique_id):
            # No event: a node that does not run is no task run.
            return runner._build_run_result(runner.node, time.time(), NodeStatus.NoOp, [], _LEFT)
        before = cutoff.before(unique_id)
        result = call_runner(task, runner, *arguments, **options)
        if result is not None and result.status in _DONE:
            cutoff.built(unique_id, before)
        return result

    GraphRunnableTask.call_runner = asked  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        GraphRunnableTask.call_runner = call_runner  # type: ignore[method-assign]


_DONE = frozenset({"success", "pass", "warn"})
