"""How each node of the dbt project was last built, in `ops.model_builds`. As the loader, under the transform's lock."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: A row of this name is there while a selection is built, whose nodes only dbt knows.
_SELECTION = "selection"


@dataclass(frozen=True, slots=True)
class ModelBuild:
    """One row. `project` is the fingerprint of the project from which `node` was read."""

    project: str
    node: Mapping[str, Any]
    run_id: int | None = None
    is_good: bool = False
    built_at: datetime | None = None
    fingerprint: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    relation: str = ""
    position: str = ""


async def read_builds(connection: Connection[Record]) -> tuple[dict[str, ModelBuild], bool]:
    """All rows by node id in the order of the build, and whether a build of a selection did not finish."""
    rows = await connection.fetch(
        "select node_id, project, node::text, run_id, is_good, built_at, fingerprint, inputs::text, relation, position "
        "from ops.model_builds order by (node ->> 'order')::int, node_id"
    )
    builds = {
        row["node_id"]: ModelBuild(
            row["project"],
            json.loads(row["node"]),
            row["run_id"],
            row["is_good"],
            row["built_at"],
            row["fingerprint"],
            json.loads(row["inputs"]),
            row["relation"],
            row["position"],
        )
        for row in rows
    }
    return builds, builds.pop(_SELECTION, None) is not None


async def begin_build(
    connection: Connection[Record], project: str, nodes: Mapping[str, Mapping[str, Any]], selected: Collection[str]
) -> None:
    """Before dbt starts: store the nodes of the project, drop those it no longer has, and mark the selected ones."""
    async with connection.transaction():
        await connection.execute(
            "delete from ops.model_builds where node_id <> all($1) and node_id <> $2 and node_id not like 'contract.%'",
            list(nodes),
            _SELECTION,
        )
        await connection.execute(
            "insert into ops.model_builds (node_id, project, node, is_good) "
            "select node_id, $1, node::jsonb, false from unnest($2::text[], $3::text[]) as given (node_id, node) "
            "on conflict (node_id) do update set project = excluded.project, node = excluded.node",
            project,
            list(nodes),
            [json.dumps({**node, "order": order}) for order, node in enumerate(nodes.values())],
        )
        await connection.execute("update ops.model_builds set is_good = false where node_id = any($1)", list(selected))


async def begin_selection(connection: Connection[Record]) -> None:
    """Before dbt builds a selection of a user's: until it has finished, nothing is known to be up to date."""
    await connection.execute(
        "insert into ops.model_builds (node_id, project, node, is_good) values ($1, '', '{}', false) "
        "on conflict do nothing",
        _SELECTION,
    )


async def end_build(
    connection: Connection[Record], built: Mapping[str, ModelBuild], *, settles_selection: bool = True
) -> None:
    """Store what was built or checked, and drop the mark of an unfinished selection."""
    async with connection.transaction():
        await connection.executemany(
            "insert into ops.model_builds (node_id, project, node, run_id, is_good, built_at, fingerprint, inputs, "
            "relation, position) "
            "values ($1, $2, $3::text::jsonb, $4, $5, clock_timestamp(), $6, $7::text::jsonb, $8, $9) "
            "on conflict (node_id) do update set run_id = excluded.run_id, is_good = excluded.is_good, "
            "built_at = excluded.built_at, fingerprint = excluded.fingerprint, inputs = excluded.inputs, "
            "relation = excluded.relation, position = excluded.position, node = ops.model_builds.node || excluded.node",
            [
                (
                    node_id, one.project, json.dumps(one.node), one.run_id, one.is_good, one.fingerprint,
                    json.dumps(one.inputs), one.relation, one.position,
                )
                for node_id, one in built.items()
            ],
        )  # fmt: skip
        if settles_selection:
            await connection.execute("delete from ops.model_builds where node_id = $1", _SELECTION)


async def copy_checks(connection: Connection[Record], run_id: int, gate: str, checked: Mapping[str, int]) -> None:
    """Repeat under this run the results of contracts that still hold. `checked`: the run that checked each dataset."""
    await connection.execute(
        "insert into ops.check_results (run_id, gate, dataset, check_name, column_name, outcome, measured, message) "
        "select $1, c.gate, c.dataset, c.check_name, c.column_name, c.outcome, c.measured, c.message "
        "from ops.check_results as c "
        "inner join unnest($3::text[], $4::bigint[]) as given (dataset, run_id) "
        "on c.dataset = given.dataset and c.run_id = given.run_id where c.gate = $2",
        run_id,
        gate,
        list(checked),
        list(checked.values()),
    )
