"""Models: how long their builds take, and which could process changed rows only."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from flows.models.manifest import Manifest, Relation
from flows.operations.tuning.findings import SHORT_A_DAY, Finding
from flows.operations.tuning.history import ENOUGH
from flows.operations.tuning.reading import SMALL_ROWS
from flows.operations.tuning.recommendation import Recommendation, percent
from flows.state.dbt_manifests import newest_build, read_manifest
from flows.values.settings import PROJECT_ROOT

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_CHANGED_AT_MOST = 0.2

_BUILDS = """
select
    name as model,
    sum(times)::bigint as builds,
    (max(day) - min(day) + 1)::double precision as days,
    percentile_cont(0.5) within group (order by seconds / times) as seconds,
    percentile_cont(0.95) within group (order by seconds / times) as p95,
    percentile_cont(0.5) within group (order by rows::double precision / times) as rows
from ops.usage_days
where kind = 'model' and day >= $1::date and times > 0 and ($2::text is null or name = $2)
group by name
order by sum(seconds) desc, name
"""
# On the day with most changes but for one in twenty.
_CHANGES = """
select name, percentile_cont(0.95) within group (order by changed) as changed from (
    select
        source_system || '.' || table_name as name,
        (started_at at time zone 'UTC')::date as day,
        sum(rows_inserted + rows_updated + coalesce(rows_deleted, 0)) as changed
    from ops.loads
    where started_at >= $1 and status = 'published' and strategy not in ('initial', 'reload')
    group by 1, 2
) as d group by name
"""


@dataclass(frozen=True, slots=True)
class ModelHistory:
    """The builds of one model: medians and 95th percentile of days' averages; seconds and rows of one build."""

    model: str
    builds: int
    days: float
    seconds: float
    p95: float
    rows: float

    @property
    def per_day(self) -> float:
        """Builds a day."""
        return self.builds / max(self.days, 1.0)

    @property
    def seconds_a_day(self) -> float:
        """What its builds take on a day."""
        return self.seconds * self.per_day


async def builds(connection: Connection[Record], since: datetime, model: str | None = None) -> list[ModelHistory]:
    """One per model that was built since then, those that took most time first."""
    return [ModelHistory(**dict(row)) for row in await connection.fetch(_BUILDS, since, model)]


def findings_of_models(models: Sequence[ModelHistory]) -> list[Finding]:
    """Models whose builds take long."""
    return [
        Finding(
            each.model,
            "duration",
            f"median {each.seconds:,.1f} s, p95 {each.p95:,.1f} s, {each.per_day:,.1f} builds a day; writes "
            f"{each.rows:,.0f} rows",
            each.seconds_a_day,
            each.builds,
        )
        for each in models
        if each.builds >= ENOUGH and each.seconds_a_day >= SHORT_A_DAY
    ]


async def newest_manifest(connection: Connection[Record]) -> Manifest | None:
    """Of the newest full build; None before there was one."""
    build = await newest_build(connection)
    return None if build is None else Manifest.read(await read_manifest(connection, build.run_id))


async def incremental(
    connection: Connection[Record], models: Sequence[ModelHistory], since: datetime
) -> list[Recommendation]:
    """For models that are built in full although few rows of the tables they are made of change."""
    known = [each for each in models if each.builds >= ENOUGH and each.rows >= SMALL_ROWS]
    manifest = await newest_manifest(connection) if known else None
    if manifest is None:
        return []
    changes = {row["name"]: float(row["changed"]) for row in await connection.fetch(_CHANGES, since)}
    by_name = {each.name: each for each in manifest.relations.values() if each.kind == "model"}
    found = []
    for history in known:
        model = by_name.get(history.model)
        if model is None or model.materialized != "table" or not model.key:
            continue
        raw = [each for each in manifest.ancestors(model.unique_id) if each.kind == "source"]
        names = [f"{each.schema.removeprefix('raw_')}.{each.identifier}" for each in raw]
        if not names or any(name not in changes for name in names):
            continue  # of a table without a known history nothing is claimed
        changed = sum(changes[name] for name in names)
        if changed <= _CHANGED_AT_MOST * history.rows:
            found.append(_recommend(history, model, changed, names))
    return found


def _recommend(history: ModelHistory, model: Relation, changed: float, names: Sequence[str]) -> Recommendation:
    share = 1 - changed / history.rows
    return Recommendation(
        "incremental",
        history.model,
        "build only changed rows: materialize it incrementally",
        "declaration",
        _edit(model),
        "materialize it as a table again, with `--full-refresh` once",
        history.seconds_a_day * share,
        f"{history.seconds_a_day:,.0f} s a day * {percent(share)} of its rows that do not change on a day; at most, "
        "because tests and indexes remain",
        "high",
        "a change of one row may change others: aggregates and windows need all rows of their group, and deleted rows "
        "a hook; compare with `medallion diff` before it is released",
        f"{history.builds} builds write {history.rows:,.0f} rows each; of {', '.join(sorted(names))} together "
        f"{changed:,.0f} rows change a day (p95)",
        history.builds,
        "seconds per build",
        {"seconds per build": history.seconds * (1 - share)},
        model=history.model,
    )


def _edit(model: Relation) -> str:
    """The diff of its configuration; the condition for changed rows is for a person to write."""
    key = f"'{model.key[0]}'" if len(model.key) == 1 else f"[{', '.join(repr(each) for each in model.key)}]"
    new = [f"        materialized='incremental',\n        unique_key={key},\n        on_schema_change='fail',\n"]
    path = PROJECT_ROOT / "dbt_project" / model.path
    before = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    at = next((number for number, line in enumerate(before) if line.strip() == "config("), None)
    if at is None:
        after = ["{{\n    config(\n", *new, "    )\n}}\n\n", *before]
    else:
        after = [*before[: at + 1], *new, *before[at + 1 :]]
    shown = "".join(after).splitlines()
    name = f"dbt_project/{model.path}"
    lines = difflib.unified_diff(
        [line.rstrip("\n") for line in before], shown, f"a/{name}", f"b/{name}", lineterm="", n=2
    )
    return "\n".join(lines) + "\n# and a condition under is_incremental() that selects rows of new loads"
