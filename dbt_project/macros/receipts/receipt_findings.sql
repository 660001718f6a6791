{#
  What a reader should know of a table, from its receipt and the facts of its sources: an array of {level, about, finding}.

  `problem`: rows are wrong, missing or old, or a test says so. `note`: what is known to be left out, or not to be known.
  Each line tells of one cause; a test takes out one after the other, and each must be missed.
#}
{% macro receipt_findings_ddl(schema) -%}
create or replace function {{ schema }}.findings_of(receipt jsonb, sources jsonb, at timestamptz) returns jsonb
language sql stable set search_path = pg_catalog as $findings$
with facts as (
    select
        s.value as f,
        s.value ->> 'name' as name,
        s.value ->> 'result' as result,
        (s.value ->> 'result_at')::timestamptz as result_at,
        coalesce(s.value -> 'compared', '{}') as compared,
        s.value -> 'compared' ->> 'result' as compared_result,
        (s.value -> 'compared' ->> 'at')::timestamptz as compared_at,
        to_char((s.value ->> 'result_at')::timestamptz at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"') as result_day,
        to_char((s.value -> 'compared' ->> 'at')::timestamptz at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"') as compared_day,
        to_char((s.value ->> 'loaded_at')::timestamptz at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"') as loaded_day
    from jsonb_array_elements(sources) as s (value)
),

-- The newer of the load's own comparison and `medallion reconcile` counts; one that could not compare takes nothing back.
judged as (
    select
        *,
        case
            when compared_result = 'match' and compared_at > result_at then null
            when result in ('missing', 'extra', 'duplicate') then result
        end as load_differs,
        compared_result = 'different' and not coalesce(result = 'match' and result_at > compared_at, false) as content_differs,
        coalesce(compared_result in ('match', 'different') and compared_at >= result_at, false) as compared_since
    from facts
),

found (level, about, finding) as (
    select said.level, judged.name, said.finding
    from judged
    cross join lateral (
        values
        ('note', case when f ->> 'batch' is null and f ->> 'attempt' is null then 'was never loaded' end), -- cause: never loaded
        ('problem', case when f ->> 'attempt' in ('failed', 'refused') then format('the last load %s: rows are as of the load before', case f ->> 'attempt' when 'failed' then 'failed' else 'was refused' end) end), -- cause: load failed
        ('note', case when f ->> 'attempt' in ('stopped', 'rescheduled') then format('the last load is not finished (%s)', f ->> 'attempt') end), -- cause: load stopped
        ('problem', case when load_differs = 'missing' then format('%s rows of the source were missing after the load of %s', f ->> 'missing', result_day) end), -- cause: missing
        ('problem', case when load_differs = 'extra' then format('%s rows were not at the source after the load of %s', f ->> 'extra', result_day) end), -- cause: extra
        ('problem', case when load_differs = 'duplicate' then format('the source had duplicate keys at the load of %s', result_day) end), -- cause: duplicate
        ('problem', case when content_differs then format('differed from the source on %s: rows %s', compared_day, concat_ws(', ', 'missing ' || nullif(compared ->> 'missing', '0'), 'extra ' || nullif(compared ->> 'extra', '0'), 'different ' || nullif(compared ->> 'different', '0'), 'duplicate ' || nullif(compared ->> 'duplicate', '0'), 'repaired ' || nullif(compared ->> 'repaired', '0'))) end), -- cause: content differs
        ('note', case when result in ('incomplete', 'limited') then 'the last load did not read to the end' end), -- cause: incomplete load
        ('note', case when coalesce(result, 'not_compared') = 'not_compared' and f ->> 'batch' is not null and not compared_since then 'was not compared with the source after the last load' end), -- cause: not compared
        ('note', case when compared_result = 'not_compared' and coalesce(compared_at > result_at, true) then format('could not be compared with the source on %s', compared_day) end), -- cause: could not compare
        ('note', case when f ->> 'quarantined' is not null then format('%s rows are quarantined%s', f ->> 'quarantined', coalesce(', ' || round(100 * (f ->> 'quarantined')::numeric / nullif((f ->> 'quarantined')::numeric + (f ->> 'rows')::numeric, 0), 2) || ' %', '')) end), -- cause: quarantined
        ('problem', case when at - (f ->> 'loaded_at')::timestamptz > make_interval(secs => (f ->> 'stale_after')::double precision) then format('stale: last loaded on %s', loaded_day) end), -- cause: stale
        ('problem', case when f ->> 'circuit' is not null then format('the source does not answer: circuit %s', f ->> 'circuit') end), -- cause: circuit
        ('note', case when f ->> 'decisions' is not null then 'a load waits for a person to decide' end), -- cause: decision
        ('note', case when f ->> 'held_columns' is not null then format('changes at the source were not applied: %s', f ->> 'held_columns') end), -- cause: schema
        ('problem', case when f ->> 'checks' is not null then format('checks of raw did not pass: %s', f ->> 'checks') end), -- cause: checks of raw
        ('note', case when f ->> 'unusual' is not null then format('is unusual: %s', f ->> 'unusual') end), -- cause: unusual
        ('note', case when (f ->> 'changed_batch')::bigint > coalesce((f ->> 'holds_batch')::bigint, (f ->> 'as_of_batch')::bigint, 0) then 'rows loaded since are not in the table' end) -- cause: newer rows
    ) as said (level, finding)
    where said.finding is not null
    union all
    select 'note', key, format('%s rows are quarantined by rules of silver', value) from jsonb_each_text(receipt -> 'quarantined_by') -- cause: quarantined by silver
    union all
    select 'problem', key, case value when 'failed' then 'the test failed' else 'the test warns' end from jsonb_each_text(case jsonb_typeof(receipt -> 'tests') when 'object' then receipt -> 'tests' else '{}' end) where value in ('failed', 'warned') -- cause: failed test
    union all
    select 'note', key, case value when 'skipped' then 'the test was skipped' else 'the test has not run since the build' end from jsonb_each_text(case jsonb_typeof(receipt -> 'tests') when 'object' then receipt -> 'tests' else '{}' end) where value in ('skipped', 'not run') -- cause: test without result
    union all
    select 'problem', receipt ->> 'table_name', format('checks of gold did not pass: %s', receipt ->> 'checks') where receipt ->> 'checks' is not null -- cause: checks of gold
    union all
    select 'note', receipt ->> 'table_name', format('days after %s are not complete; the newest is %s (UTC)', receipt ->> 'complete_until', receipt ->> 'newest_day') where (receipt ->> 'newest_day')::date > coalesce((receipt ->> 'complete_until')::date, '-infinity') -- cause: incomplete days
    union all
    select 'note', receipt ->> 'table_name', 'was built outside of a run, by a call of dbt' where receipt ->> 'run_id' is null -- cause: outside of a run
)

select coalesce(jsonb_agg(jsonb_build_object('level', level, 'about', about, 'finding', finding) order by level desc, about, finding), '[]')
from found
$findings$;
comment on function {{ schema }}.findings_of(jsonb, jsonb, timestamptz) is
'Of receipts: what a reader should know of a table, from its receipt.';
grant execute on function {{ schema }}.findings_of(jsonb, jsonb, timestamptz) to public;
{% endmacro %}
