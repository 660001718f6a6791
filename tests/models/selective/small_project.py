"""A dbt project of a dozen nodes whose every row can be told from its inputs, built selectively step by step.

It has what a selection can forget: macros called by macros, a hook, variables, a seed, an ephemeral model, views on
views and on tables, an incremental model that deletes, a model that depends on the day, and a test.
"""

import asyncio
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from flows.models import shadow, swap
from flows.models.project import Invocation, run_dbt
from flows.models.selective.build import SelectiveBuild, finished, selection_of
from flows.models.selective.cutoff import Cutoff, cutting_off
from flows.models.selective.decision import Decision
from flows.values.connection import DatabaseConnection
from tests.conftest import ROOT, TestDatabase

ALL = {
    "codes", "stg_orders", "stg_lines", "stg_notes", "joined", "kept", "coded", "total", "seen", "latest", "marked",
}  # fmt: skip
SCHEMAS = ("staging", "silver", "gold")
RELATIONS = (
    "silver.joined", "silver.kept", "silver.coded", "gold.total", "gold.seen", "gold.latest", "gold.marked",
)  # fmt: skip

_FILES = {
    "dbt_project.yml": """
name: medallion
profile: medallion
version: "1.0.0"
vars: {{step: {step}}}
models:
  medallion:
    staging: {{+schema: staging, +materialized: view}}
    silver: {{+schema: silver, +materialized: table}}
    gold: {{+schema: gold, +materialized: table}}
seeds: {{medallion: {{+schema: staging}}}}
data_tests: {{medallion: {{+schema: test_failures}}}}
""",
    "macros/outer.sql": "{{% macro outer(x) %}}{{{{ inner(x) }}}} + 1{{% endmacro %}}",
    "macros/inner.sql": "{{% macro inner(x) %}}({x} * {{{{ x }}}}){{% endmacro %}}".replace("{x}", "{factor}"),
    "macros/mark.sql": "{{% macro mark() %}}update {{{{ this }}}} set mark = {mark}{{% endmacro %}}",
    "seeds/codes.csv": "code,label\n1,{label}\n2,two\n",
    "models/sources.yml": """
sources:
  - name: shop
    schema: raw_shop
    tables: [{{name: orders}}, {{name: lines}}, {{name: notes}}]
""",
    "models/staging/stg_orders.sql": "select id, amount::integer as amount from {{{{ source('shop', 'orders') }}}}",
    "models/staging/stg_lines.sql": "select id, order_id, code from {{{{ source('shop', 'lines') }}}}",
    "models/staging/stg_notes.sql": "select id, note || '{end}' as note from {{{{ source('shop', 'notes') }}}}",
    "models/silver/joined.sql": """
select line.id, line.code, {{{{ outer('o.amount') }}}} as amount
from {{{{ ref('stg_lines') }}}} as line inner join {{{{ ref('stg_orders') }}}} as o on line.order_id = o.id
""",
    "models/silver/kept.sql": """
{{{{ config(materialized='incremental', unique_key='id', incremental_strategy='delete+insert',
    post_hook="{{% if is_incremental() %}}delete from {{{{ this }}}} as k where not exists "
    "(select from {{{{ ref('stg_orders') }}}} as o where o.id = k.id){{% endif %}}") }}}}
select o.id, o.amount from {{{{ ref('stg_orders') }}}} as o
{{% if is_incremental() %}}
where not exists (select from {{{{ this }}}} as k where k.id = o.id and k.amount = o.amount)
{{% endif %}}
""",
    "models/silver/coded.sql": """
select line.id, codes.label from {{{{ ref('stg_lines') }}}} as line
inner join {{{{ ref('codes') }}}} as codes on line.code = codes.code
""",
    "models/silver/per_code.sql": """
{{{{ config(materialized='ephemeral') }}}}
select code, sum(amount) as amount from {{{{ ref('joined') }}}} group by code
""",
    "models/gold/total.sql": """
select coded.label, sum(per_code.amount) * {{{{ var('step') }}}} + {shift} as amount
from {{{{ ref('per_code') }}}} as per_code
inner join {{{{ ref('coded') }}}} as coded on true group by coded.label
""",
    "models/gold/seen.sql": """
{{{{ config(materialized='view') }}}} select label, amount from {{{{ ref('total') }}}}
""",
    "models/gold/latest.sql": """
{{{{ config(meta={{'reads_clock': 'each_day'}}) }}}}
select current_date::text as day, count(*) as orders from {{{{ ref('kept') }}}}
""",
    "models/gold/marked.sql": """
{{{{ config(post_hook='{{{{ mark() }}}}') }}}}
select note.id, note.note, 0 as mark from {{{{ ref('stg_notes') }}}} as note
""",
    "models/silver/joined.yml": """
models:
  - name: joined
    columns:
      - name: id
        data_tests: [unique]
""",
    "tests/no_negative_amount.sql": "select id from {{{{ ref('kept') }}}} where amount < 0",
}  # fmt: skip

# The same rows by other means: no dbt, no macro, and in one statement.
_EXPECTED = {
    "silver.joined": "select l.id, l.code, {factor} * o.amount::int + 1 as amount from raw_shop.lines l "
    "join raw_shop.orders o on l.order_id = o.id",
    "silver.kept": "select id, amount::int as amount from raw_shop.orders",
    "silver.coded": "select l.id, c.label from raw_shop.lines l "
    "join (values (1, '{label}'), (2, 'two')) c (code, label) using (code)",
    "gold.total": "select c.label, sum(j.amount) * {step} + {shift} as amount from "
    "(select l.code, sum({factor} * o.amount::int + 1) amount from raw_shop.lines l "
    "join raw_shop.orders o on l.order_id = o.id group by 1) j cross join "
    "(select l.id, c.label from raw_shop.lines l join (values (1, '{label}'), (2, 'two')) c (code, label) "
    "using (code)) c group by 1",
    "gold.latest": "select current_date::text as day, count(*) as orders from raw_shop.orders",
    "gold.marked": "select id, note || '{end}' as note, {mark} as mark from raw_shop.notes",
}
_EXPECTED["gold.seen"] = _EXPECTED["gold.total"]
_RAW = """
create schema raw_shop;
create table raw_shop.orders (id integer primary key, amount text);
create table raw_shop.lines (id integer primary key, order_id integer, code integer);
create table raw_shop.notes (id integer primary key, note text);
insert into raw_shop.orders select n, n::text from generate_series(1, 6) n;
insert into raw_shop.lines select n, 1 + n % 6, 1 + n % 2 from generate_series(1, 12) n;
insert into raw_shop.notes select n, 'note ' || n from generate_series(1, 3) n;
"""
_CHECKSUM = "select coalesce(md5(string_agg(t::text, '|' order by t::text)), '-') from ({query}) t"

Sabotage = Callable[[SelectiveBuild, Decision], Decision]


@dataclass
class SmallWarehouse:
    """The warehouse, the project as it stands, and one step after the other. `sabotage` spoils each decision."""

    database: TestDatabase
    folder: Path
    values: dict[str, Any] = field(
        default_factory=lambda: {"factor": 2, "step": 1, "label": "one", "shift": 0, "mark": 7, "end": ""}
    )
    sabotage: Sabotage = lambda _, decision: decision
    run_id: int = 0
    last: Decision | None = None
    left: set[str] = field(default_factory=set)
    added: set[Path] = field(default_factory=set)
    project_yaml: str = ""
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.target = self.folder / "target"
        self.project = self.folder / "project"
        self.sql("loader", _RAW)
        self.write()

    @property
    def transformer(self) -> DatabaseConnection:
        return DatabaseConnection("warehouse", self.database.url("transformer"))

    @property
    def loader(self) -> DatabaseConnection:
        return DatabaseConnection("warehouse", self.database.url("loader"))

    def sql(self, role: str, statement: str) -> list[tuple[Any, ...]]:
        """Run it, and see the session's end: then PostgreSQL's counters have what it wrote."""
        with psycopg.connect(self.database.url(role)) as connection:
            pid = connection.info.backend_pid
            cursor = connection.execute(statement.encode())
            rows = cursor.fetchall() if cursor.description else []
        with psycopg.connect(self.database.url("admin"), autocommit=True) as admin:
            while admin.execute("select from pg_stat_activity where pid = %s", [pid]).fetchall():
                pass
        return rows

    def load(self, table: str, statement: str) -> None:
        """Change a raw table as a load does: rows and ledger in one transaction."""
        self.sql(
            "loader",
            f"{statement}; insert into ops.loads (source_system, table_name, strategy, status, rows_read, "
            "rows_inserted, rows_updated, rows_unchanged, rows_deduplicated, rows_quarantined, rows_deleted, "
            f"finished_at) values ('shop', '{table}', 'merge', 'published', 1, 1, 0, 0, 0, 0, 0, now())",
        )

    def write(self) -> None:
        """Write the project with the current values."""
        for name, text in _FILES.items():
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.format(**self.values), encoding="utf-8")
        if self.project_yaml:
            path = self.project / "dbt_project.yml"
            kept = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("vars:")]
            more = self.project_yaml
            for name, value in self.values.items():
                more = more.replace(name.upper(), str(value))
            path.write_text("\n".join([*kept, more]), encoding="utf-8")
        shutil.copy(ROOT / "dbt_project/profiles.yml", self.project)
        shutil.copy(ROOT / "dbt_project/macros/generate_schema_name.sql", self.project / "macros")

    def add(self, **files: str) -> None:
        """Write further files of the project, as `gold__name` for models/gold/name.sql, until `remove_added`."""
        for name, text in files.items():
            folder, _, stem = name.partition("__")
            path = self.project / (f"models/{folder}" if folder in SCHEMAS else folder) / f"{stem}.sql"
            self._write_added(path, text)

    def add_yaml(self, name: str, text: str) -> None:
        self._write_added(self.project / "models" / f"{name}.yml", text)

    def _write_added(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        self.added.add(path)

    def remove_added(self) -> None:
        for path in self.added:
            path.unlink(missing_ok=True)
        self.added.clear()

    def edit(self, **values: Any) -> None:
        self.values |= values
        self.write()

    def decided(self, everything: str = "") -> tuple[SelectiveBuild, Decision]:
        """Look and decide, as the transform does."""
        self.run_id += 1
        build = SelectiveBuild(self.run_id, self.project, self.loader, self.transformer, everything)
        asyncio.run(build.look())
        project = build.stored_project()
        if project is None:
            parsed = self.dbt("parse")
            assert not parsed.problem, parsed.problem
            project = build.parsed_project(self.target / "manifest.json")
        self.last = self.sabotage(build, asyncio.run(build.decide(project)))
        return build, self.last

    def build(self, *, select: str | None = None) -> bool:
        """One selective build, or one of a user's selection; whether all went well."""
        build, decision = self.decided()
        self.left = set()
        asyncio.run(build.begin(decision, selection=select is not None))
        if select is None and not decision.reasons:
            return True
        results = self.target / "run_results.json"
        results.unlink(missing_ok=True)
        chosen = ["--select", select] if select is not None else self._chosen(decision)
        cutoff = None if select is not None else Cutoff(decision, build.run_id, self.transformer.url)
        with cutting_off(cutoff):
            done = self.dbt("build", *chosen)
        self.left = set() if cutoff is None else cutoff.left
        asyncio.run(build.end(decision, finished(results), cutoff))
        self.problems = [done.problem, *(f"{node.unique_id}: {node.message}" for node in done.nodes if not node.ok)]
        return done.ok

    def killed_build(self, nodes: int, *, select: str | None = None) -> None:
        """A build that is killed after so many nodes: they are committed, and nobody could record them."""
        build, decision = self.decided()
        names = list(decision.reasons)[:nodes]
        if not names and select is None:
            return
        asyncio.run(build.begin(decision, selection=select is not None))
        fqns = [f"fqn:{'.'.join(decision.project.nodes[name].fqn)}" for name in names]
        self.dbt("build", *(["--select", select] if select is not None else selection_of(fqns)))

    @staticmethod
    def _chosen(decision: Decision) -> list[str]:
        return [] if decision.selection is None else selection_of(decision.selection)

    def dbt(self, *arguments: str, prefix: str = "", folder: Path | None = None) -> Invocation:
        return run_dbt(
            arguments, url=self.transformer.url, target=folder or self.target, prefix=prefix, project=self.project
        )

    def release(self) -> bool:
        """Build all of it beside, and exchange, as `medallion transform --release` does."""

        async def prepare() -> None:
            async with _connect(self.transformer) as warehouse:
                await shadow.prepare(warehouse, SCHEMAS)

        async def exchange() -> None:
            async with _connect(self.transformer) as warehouse:
                await swap.release(warehouse, SCHEMAS, {"release": self.run_id}, wait_seconds=20)
                await shadow.drop_under(warehouse, shadow.DISCARDED)

        asyncio.run(prepare())
        done = self.dbt("build", prefix=shadow.NEXT, folder=self.folder / "next")
        if done.ok:
            asyncio.run(exchange())
        return done.ok

    def roll_back(self) -> None:
        """Exchange with what was there before the last release, if there was one."""

        async def exchange() -> None:
            async with _connect(self.transformer) as warehouse:
                if await shadow.schemas_under(warehouse, shadow.PREVIOUS):
                    await swap.roll_back(warehouse, wait_seconds=20)

        asyncio.run(exchange())

    def differing(self) -> list[str]:
        """The relations that differ from what a full build would hold now."""
        found = []
        for name in RELATIONS:
            if self.checksum(f"select * from {name}") != self.checksum(_EXPECTED[name].format(**self.values)):
                found.append(name)
        return found

    def checksum(self, query: str) -> str:
        """As the role that builds sees it: with its time zone."""
        with psycopg.connect(self.database.url("transformer"), autocommit=True) as admin:
            try:
                row = admin.execute(_CHECKSUM.format(query=query).encode()).fetchone()
            except psycopg.errors.UndefinedTable:
                return "missing"
        assert row is not None
        return str(row[0])

    def nodes_built(self) -> set[str]:
        """The names of what the last build selected and did not leave as it was, without tests."""
        assert self.last is not None
        nodes = self.last.project.nodes
        return {nodes[name].name for name in self.last.reasons if nodes[name].kind != "test" and name not in self.left}


def _connect(address: DatabaseConnection) -> Any:
    from flows.access.addresses import connect

    return connect(address, side="warehouse")


def statuses(results: Path) -> Mapping[str, str]:
    return {each["unique_id"]: each["status"] for each in json.loads(results.read_text())["results"]}
