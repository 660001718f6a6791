"""A declared table loaded, or compared with its source, in the way of its kind of source. Looks addresses up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from flows import connections
from flows.loads.api import load_endpoint
from flows.loads.chunks import RunChunk
from flows.loads.database import load_table
from flows.loads.dlt import load_resource
from flows.loads.foreign import load_foreign
from flows.loads.reconcile import reconcile_table
from flows.loads.reconcile_counts import reconcile_endpoint
from flows.loads.reconcile_dlt import reconcile_resource
from flows.loads.reconcile_foreign import reconcile_foreign
from flows.loads.session import LoadResult, Progress
from flows.spec import Api, DltSource, Source
from flows.state.reconciliations import Reconciliation


async def load_declared(
    source: Source,
    table: str,
    run_id: int | None,
    on_progress: Progress | None,
    readers: Callable[[], AbstractContextManager[RunChunk | None]],
) -> LoadResult:
    """Bring one raw table up to date. `readers` is called only where a table may be read in chunks.

    Raises:
        MedallionError: see `flows.spec.errors`; what was committed before stays, and nothing partial is left.
    """
    warehouse = connections.warehouse()
    if isinstance(source, Api):
        api, endpoint = connections.api(source), source.table(table)
        return await load_endpoint(warehouse, api, source, endpoint, run_id=run_id, on_progress=on_progress)
    if isinstance(source, DltSource):
        connection, resource = connections.dlt(source), source.table(table)
        return await load_resource(warehouse, connection, source, resource, run_id=run_id, on_progress=on_progress)
    origin, declared = connections.database(source), source.table(table)
    if source.engine != "postgresql":
        return await load_foreign(warehouse, origin, source, declared, run_id=run_id, on_progress=on_progress)
    with readers() as run_chunk:
        return await load_table(
            warehouse, origin, source, declared, run_id=run_id, on_progress=on_progress, run_chunk=run_chunk
        )


async def reconcile_declared(source: Source, table: str, run_id: int | None, *, repair: bool) -> Reconciliation:
    """Compare one table's both ends. Only tables of PostgreSQL can be repaired by single keys.

    Raises:
        MedallionError: see `flows.spec.errors`.
    """
    warehouse = connections.warehouse()
    if isinstance(source, Api):
        return await reconcile_endpoint(warehouse, connections.api(source), source, source.table(table), run_id=run_id)
    if isinstance(source, DltSource):
        return await reconcile_resource(warehouse, connections.dlt(source), source, source.table(table), run_id=run_id)
    origin, declared = connections.database(source), source.table(table)
    if source.engine != "postgresql":
        return await reconcile_foreign(warehouse, origin, source, declared, run_id=run_id)
    return await reconcile_table(warehouse, origin, source, declared, run_id=run_id, repair=repair)
