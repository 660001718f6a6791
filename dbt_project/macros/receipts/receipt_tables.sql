{#
  The tables and views of receipts, made before a build. Where they are as they should be, nothing is asked for: they are
  read while models are built.
#}
{% macro receipt_tables() -%}
    {%- if has_receipts() and flags.WHICH in ['build', 'run', 'snapshot', 'test'] -%}
        {%- set schema = receipt_schema() -%}
        {%- set ddl = receipt_tables_ddl(schema) ~ receipt_facts_ddl(schema) ~ receipt_findings_ddl(schema) ~ receipts_now_ddl(schema) -%}
        {%- set version = local_md5(ddl) -%}
        {%- set held = run_query(
            "select obj_description(to_regclass('" ~ schema ~ ".receipts_now'), 'pg_class')"
        ).rows[0][0] or '' -%}
        {%- if version not in held -%}
            {{ ddl }}
            comment on view {{ schema }}.receipts_now is
            'One row per table of gold: its receipt, and what is known now of what it rests on. Definition {{ version }}.';
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}


{% macro receipt_tables_ddl(schema) -%}
create schema if not exists {{ schema }};
drop view if exists {{ schema }}.receipts_now;

create table if not exists {{ schema }}.receipts (
    table_name text primary key,
    published_at timestamptz not null default clock_timestamp(),
    run_id bigint,
    models text,
    commit_sha text,
    statement_hash text not null,
    complete_until date,
    newest_day date,
    sources jsonb not null,
    rows_quarantined bigint not null,
    quarantined_share numeric,
    quarantined_by jsonb not null,
    tests_passed integer,
    tests_warned integer,
    tests_failed integer,
    tests_skipped integer,
    tests_not_run integer,
    tested_at timestamptz,
    findings jsonb not null default '[]'
);
comment on table {{ schema }}.receipts is
'One row per table of gold, written in the transaction that published it: what it was built from, by which code, and what was known of that. receipts_now has what is known since.';
comment on column {{ schema }}.receipts.run_id is 'The run of ops.runs that built it; null if somebody called dbt.';
comment on column {{ schema }}.receipts.models is 'Fingerprint of the dbt project.';
comment on column {{ schema }}.receipts.statement_hash is 'MD5 of the compiled statement.';
comment on column {{ schema }}.receipts.complete_until is
'The last day of which all sales were known; null for tables without days of sales.';
comment on column {{ schema }}.receipts.newest_day is 'The last day (UTC) of which some sales were known.';
comment on column {{ schema }}.receipts.sources is
'Per source table: as_of_batch, the load of ops.loads up to which its rows are in the table, as_of, when that ended, read_to, the position it had read to; loaded_at, the last full load; result and compared, how both ends compared; rows and quarantined.';
comment on column {{ schema }}.receipts.quarantined_share is
'rows_quarantined as a share of all rows of its sources, from 0 to 1; null if their number is not known.';
comment on column {{ schema }}.receipts.quarantined_by is 'Rows that rules of silver quarantined, by table.';
comment on column {{ schema }}.receipts.tests_not_run is
'Tests of the table, and of what it rests on, without a result since the build. The columns of tests are null until the build that published the table has ended.';
comment on column {{ schema }}.receipts.findings is
'What a reader should know, as published: level (problem or note), about, finding. Without tests.';

create table if not exists {{ schema }}.receipt_nodes (
    node_id text primary key,
    published_at timestamptz not null default clock_timestamp(),
    run_id bigint,
    as_of jsonb not null,
    rows_quarantined bigint
);
comment on table {{ schema }}.receipt_nodes is
'One row per table that a build left, also of silver: the newest load of each source table whose rows it is sure to have.';

create table if not exists {{ schema }}.receipt_tests (
    test text primary key,
    name text not null,
    nodes text[] not null,
    tables text[] not null,
    status text not null check (status in ('passed', 'warned', 'failed', 'skipped', 'not run')),
    failing_rows bigint,
    run_id bigint,
    tested_at timestamptz
);
comment on table {{ schema }}.receipt_tests is
'One row per data test of the dbt project: its last result, what it reads (nodes), and the tables of gold that rest on that.';
{% endmacro %}


{#
  What is known of tables of sources, as JSON. Readers may not read operations: the functions answer as their owner, with
  counts and times. Their bodies are texts, so that upgrades of `ops` are not held up by views of gold.
#}
{% macro receipt_facts_ddl(schema) -%}
create or replace function {{ schema }}.source_facts(names text[]) returns table (name text, facts jsonb)
language sql stable security definer set search_path = pg_catalog as $facts$
with gate as (
    select r.run_id from ops.runs as r
    where exists (select from ops.check_results as c where c.run_id = r.run_id and c.gate = 'raw')
    order by r.run_id desc limit 1
)

select wanted.name, jsonb_strip_nulls(jsonb_build_object(
    'batch', newest.batch_id,
    'changed_batch', changed.batch_id,
    'changed_at', changed.finished_at,
    'loaded_at', loaded.finished_at,
    'rows', coalesce(judged.raw_rows, (
        select c.reltuples::bigint from pg_class as c
        where
            c.oid = to_regclass(format('%I.%I', 'raw_' || key.source_system, key.table_name))
            and c.reltuples >= 0
    )),
    'result', judged.reconciliation,
    'result_at', judged.finished_at,
    'missing', coalesce(judged.missing_rows, judged.source_rows - judged.raw_rows - judged.quarantine_rows),
    'extra', coalesce(judged.extra_rows, judged.raw_rows + judged.quarantine_rows - judged.source_rows),
    'duplicate', judged.duplicate_rows,
    'attempt', attempt.status,
    'attempt_at', attempt.at,
    'compared', compared.facts,
    'quarantined', nullif(withheld.rows, 0),
    'circuit', circuit.state,
    'decisions', nullif(decision.open, 0),
    'held_columns', held.columns,
    'checks', checks.names,
    'unusual', unusual.measures
))
from unnest(names) as wanted (name)
cross join lateral (
    select split_part(wanted.name, '.', 1) as source_system, substr(wanted.name, strpos(wanted.name, '.') + 1) as table_name
) as key
left join lateral (
    select l.batch_id from ops.loads as l
    where l.source_system = key.source_system and l.table_name = key.table_name and l.status = 'published'
    order by l.batch_id desc limit 1
) as newest on true
left join lateral (
    select l.batch_id, l.finished_at from ops.loads as l
    where
        l.source_system = key.source_system and l.table_name = key.table_name and l.status = 'published'
        and coalesce(l.rows_inserted, 0) + coalesce(l.rows_updated, 0) + coalesce(l.rows_deleted, 0) > 0
    order by l.batch_id desc limit 1
) as changed on true
left join lateral (
    -- As flows/state/freshness.py: what reads some keys or partitions does not make a table fresh.
    select l.finished_at from ops.loads as l
    where
        l.source_system = key.source_system and l.table_name = key.table_name and l.status = 'published'
        and l.strategy not in ('repair', 'backfill', 'limited', 'replay')
        and l.reconciliation is distinct from 'incomplete'
    order by l.batch_id desc limit 1
) as loaded on true
left join lateral (
    select l.* from ops.loads as l
    where
        l.source_system = key.source_system and l.table_name = key.table_name and l.status = 'published'
        and l.reconciliation is not null
    order by l.batch_id desc limit 1
) as judged on true
left join lateral (
    select l.status, coalesce(l.finished_at, l.started_at) as at from ops.loads as l
    where
        l.source_system = key.source_system and l.table_name = key.table_name
        and l.batch_id > coalesce(newest.batch_id, 0) and l.status <> 'running'
    order by l.batch_id desc limit 1
) as attempt on true
left join lateral (
    select jsonb_build_object(
        'result', c.result, 'at', c.reconciled_at, 'method', c.method, 'missing', c.missing, 'extra', c.extra,
        'different', c.different, 'duplicate', c.duplicate, 'repaired', c.repaired
    ) as facts
    from ops.reconciliations as c
    where c.source_system = key.source_system and c.table_name = key.table_name
    order by c.reconciliation_id desc limit 1
) as compared on true
left join lateral (
    select count(*) as rows from quarantine.rows as q
    where q.source_system = key.source_system and q.table_name = key.table_name and q.withheld
) as withheld on true
left join ops.circuits as circuit on circuit.source_system = key.source_system and circuit.state <> 'closed'
left join lateral (
    select count(*) as open from ops.decisions as d
    where d.source_system = key.source_system and d.table_name = key.table_name and d.status = 'open'
) as decision on true
left join lateral (
    select string_agg(distinct s.column_name, ', ' order by s.column_name) as columns from ops.schema_changes as s
    where
        s.source_system = key.source_system and s.table_name = key.table_name and not s.applied
        and not exists (
            select from ops.schema_changes as later
            where
                later.source_system = s.source_system and later.table_name = s.table_name
                and later.column_name = s.column_name and later.applied and later.change_id > s.change_id
        )
) as held on true
left join lateral (
    -- Of ages there is a finding of its own.
    select string_agg(distinct c.check_name || coalesce(' of ' || c.column_name, '') || ' ' || c.outcome, ', ') as names
    from ops.check_results as c
    where
        c.run_id = (select gate.run_id from gate) and c.gate = 'raw' and c.dataset = 'raw_' || wanted.name
        and c.outcome <> 'passed' and c.check_name not like '%freshness%'
) as checks on true
left join lateral (
    select string_agg(distinct a.measure || coalesce(' of ' || nullif(a.column_name, ''), ''), ', ') as measures
    from ops.anomalies as a
    where
        a.source_system = key.source_system and a.table_name = key.table_name and a.acceptance_id is null
        and a.day >= (current_timestamp at time zone 'UTC')::date - 1
) as unusual on true
$facts$;
comment on function {{ schema }}.source_facts(text[]) is
'Of receipts: what operations know of tables of sources.';
grant execute on function {{ schema }}.source_facts(text[]) to public;

-- Of the newest run that gave readers these tables: the loads that all of them have, and checks of the gate.
create or replace function {{ schema }}.run_facts() returns table (as_of jsonb, dataset text, checks text)
language sql stable security definer set search_path = pg_catalog as $facts$
with newest as (
    select r.run_id, r.pipeline, r.details from ops.runs as r
    where
        r.pipeline in ('transform', 'release', 'rollback') and r.status = 'done'
        and (r.details ? 'full_build' or r.pipeline <> 'transform')
    order by r.run_id desc limit 1
),

gate as (
    select r.run_id from ops.runs as r
    where exists (select from ops.check_results as c where c.run_id = r.run_id and c.gate = 'gold')
    order by r.run_id desc limit 1
)

select n.details -> 'as_of', null, null from newest as n where n.pipeline = 'transform' and n.details ? 'as_of'
union all
select null, c.dataset, string_agg(distinct c.check_name || coalesce(' of ' || c.column_name, '') || ' ' || c.outcome, ', ')
from ops.check_results as c
inner join gate using (run_id)
left join newest as n on n.pipeline = 'rollback' and n.run_id > gate.run_id
where c.gate = 'gold' and c.outcome <> 'passed' and n.run_id is null
group by c.dataset
$facts$;
comment on function {{ schema }}.run_facts() is
'Of receipts: what operations know of the last run.';
grant execute on function {{ schema }}.run_facts() to public;
{% endmacro %}


{% macro receipts_now_ddl(schema) -%}
create view {{ schema }}.receipts_now as
with facts as materialized (
    select
        found.name,
        found.facts
    from {{ schema }}.source_facts(array(
        select distinct source.value ->> 'name'
        from {{ schema }}.receipts as receipt
        cross join jsonb_array_elements(receipt.sources) as source (value)
    )) as found
),

run as materialized (
    {% if schema.removeprefix('next__') == 'gold' -%}
    select * from {{ schema }}.run_facts()
    {%- else -%}
    select null::jsonb as as_of, null::text as dataset, null::text as checks
    {%- endif %}
),

-- What was found to have the same rows as in that run's sources was left as it was: it has them, too.
sources as (
    select
        receipt.table_name,
        coalesce(jsonb_agg(
            jsonb_build_object('name', source.value -> 'name')
            || jsonb_strip_nulls(jsonb_build_object(
                'as_of_batch', source.value -> 'as_of_batch',
                'as_of', source.value -> 'as_of',
                'read_to', source.value -> 'read_to',
                'stale_after', source.value -> 'stale_after',
                'holds_batch', greatest(
                    (source.value ->> 'as_of_batch')::bigint,
                    (select (run.as_of ->> (source.value ->> 'name'))::bigint from run where run.as_of is not null)
                )
            ))
            || facts.facts
            order by source.value ->> 'name'
        ) filter (where source.value is not null), '[]') as sources
    from {{ schema }}.receipts as receipt
    left join jsonb_array_elements(receipt.sources) as source (value) on true
    left join facts on facts.name = source.value ->> 'name'
    group by receipt.table_name
),

-- A result of before the table was built says nothing about it.
tests as (
    select
        receipt.table_name,
        count(*) filter (where judged.status = 'passed')::integer as tests_passed,
        count(*) filter (where judged.status = 'warned')::integer as tests_warned,
        count(*) filter (where judged.status = 'failed')::integer as tests_failed,
        count(*) filter (where judged.status = 'skipped')::integer as tests_skipped,
        count(*) filter (where judged.status = 'not run')::integer as tests_not_run,
        max(judged.tested_at) as tested_at,
        jsonb_object_agg(judged.name, judged.status) filter (where judged.status <> 'passed') as tests_not_passed
    from {{ schema }}.receipts as receipt
    cross join lateral (
        select
            test.name,
            test.tested_at,
            case
                when exists (
                    select from {{ schema }}.receipt_nodes as node
                    where node.node_id = any(test.nodes) and node.published_at > test.tested_at
                ) then 'not run'
                else test.status
            end as status
        from {{ schema }}.receipt_tests as test
        where receipt.table_name = any(test.tables)
    ) as judged
    group by receipt.table_name
)

select
    receipt.table_name,
    receipt.published_at,
    receipt.run_id,
    receipt.models,
    receipt.commit_sha,
    receipt.complete_until,
    receipt.newest_day,
    sources.sources,
    receipt.rows_quarantined,
    receipt.quarantined_share,
    coalesce(tests.tests_passed, 0) as tests_passed,
    coalesce(tests.tests_warned, 0) as tests_warned,
    coalesce(tests.tests_failed, 0) as tests_failed,
    coalesce(tests.tests_skipped, 0) as tests_skipped,
    coalesce(tests.tests_not_run, 0) as tests_not_run,
    tests.tested_at,
    receipt.findings as findings_as_published,
    found.findings,
    (select count(*)::integer from jsonb_array_elements(found.findings) as f (value) where f.value ->> 'level' = 'problem')
        as problems
from {{ schema }}.receipts as receipt
inner join sources on receipt.table_name = sources.table_name
left join tests on receipt.table_name = tests.table_name
left join run on run.dataset = 'gold.' || receipt.table_name
cross join lateral (
    select {{ schema }}.findings_of(
        to_jsonb(receipt) || jsonb_build_object('tests', tests.tests_not_passed, 'checks', run.checks),
        sources.sources,
        current_timestamp
    ) as findings
) as found;
{% endmacro %}
