{#
  Receipts: for each table of gold, what it rests on. Hooks write them in the transaction that publishes the table.

      {{ begin_receipt() }}  before the model's statement: the newest loads of the sources it reads. So what it claims to
                             have is never more than what it has, whatever is loaded meanwhile.
      {{ end_receipt() }}    after it: in gold, the receipt

  Tables between raw and gold leave what they rest on in `receipt_nodes`, since a selection may build gold from tables of
  an earlier run: a table is as old as the oldest that it was built from. In a transform of all that has changed, the rest
  is known to be what the run found: then it is as of the beginning of the run (`as_of` of ops.runs).

  A review may not read operations, and has no receipts.
#}
{% macro receipt_schema() -%}
    {{ return(env_var('MEDALLION_DBT_SCHEMA_PREFIX', '') ~ 'gold') }}
{%- endmacro %}


{#
  Whether this build writes receipts: of the shared schemas or those of a release, or a private one that builds gold.
#}
{% macro has_receipts() -%}
    {%- set prefix = env_var('MEDALLION_DBT_SCHEMA_PREFIX', '') -%}
    {%- if not execute or prefix.startswith('pr_') -%}{{ return(false) }}{%- endif -%}
    {%- if prefix in ['', 'next__'] -%}{{ return(true) }}{%- endif -%}
    {%- for unique_id in selected_resources -%}
        {%- if graph.nodes.get(unique_id, {}).get('schema') == receipt_schema()
            and graph.nodes[unique_id].resource_type == 'model' -%}
            {{ return(true) }}
        {%- endif -%}
    {%- endfor -%}
    {{ return(false) }}
{%- endmacro %}


{% macro begin_receipt() -%}
    {%- if has_receipts() and writes_receipt(model.unique_id) -%}
        {%- set found = sources_and_parents(model.unique_id) -%}
        {%- set nodes = receipt_schema() ~ '.receipt_nodes' -%}
        with run as (
            {{ receipt_run() }}
        ),

        sources (name) as (
            select unnest({{ text_array(all_sources(model.unique_id)) }})
        ),

        -- Of a parent that left nothing behind, nothing is known.
        inherited as (
            {%- for parent in found.parents %}
                select
                    sources.name,
                    node.as_of ? sources.name or node.node_id is null as rests_on_it,
                    (node.as_of ->> sources.name)::bigint as batch_id
                from sources
                left join {{ parent_nodes(parent) }} as node on node.node_id = '{{ parent }}'
                union all
            {%- endfor %}
            select
                direct.name,
                true as rests_on_it,
                newest.batch_id
            from unnest({{ text_array(found.sources) }}) as direct (name)
            left join lateral (
                select max(load.batch_id) as batch_id
                from ops.loads as load
                where
                    load.source_system = split_part(direct.name, '.', 1)
                    and load.table_name = split_part(direct.name, '.', 2)
                    and load.status = 'published'
            ) as newest on true
        ),

        oldest as (
            select
                name,
                case when bool_and(batch_id is not null) then min(batch_id) end as batch_id
            from inherited
            where rests_on_it
            group by name
        )

        insert into {{ nodes }} (node_id, run_id, as_of)
        select
            '{{ model.unique_id }}',
            (select run.run_id from run),
            coalesce(
                jsonb_object_agg(
                    sources.name,
                    greatest(oldest.batch_id, (select (run.as_of ->> sources.name)::bigint from run))
                ) filter (where sources.name is not null),
                '{}'
            )
        from (select 1) as always
        left join sources on true
        left join oldest on sources.name = oldest.name
        on conflict (node_id) do update set run_id = excluded.run_id, as_of = excluded.as_of
    {%- endif -%}
{%- endmacro %}


{% macro end_receipt() -%}
    {%- if has_receipts() and writes_receipt(model.unique_id) -%}
        {%- set schema = receipt_schema() -%}
        update {{ schema }}.receipt_nodes
        set
            published_at = default,
            rows_quarantined = {% if model.name.startswith('quarantine_') -%}
                (select count(*) from {{ this }})
            {%- else %}null{% endif %}
        where node_id = '{{ model.unique_id }}';
        {%- if model.schema == schema %}
            {{ write_receipt(schema) }}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}


{% macro write_receipt(schema) -%}
    with run as (
        {{ receipt_run() }}
    ),

    known as (
        select
            facts.name,
            facts.facts
            || jsonb_build_object(
                'as_of_batch', node.as_of -> facts.name,
                'as_of', load.finished_at,
                'read_to', load.window_upper,
                'stale_after', limits.seconds
            ) as facts
        from {{ schema }}.receipt_nodes as node
        cross join lateral {{ schema }}.source_facts(
            array(select jsonb_object_keys(node.as_of) order by 1)
        ) as facts
        left join ops.loads as load on load.batch_id = (node.as_of ->> facts.name)::bigint
        left join (
            values ('', 0::bigint)
            {%- for name, seconds in stale_after().items() %}, ('{{ name }}', {{ seconds }}){% endfor %}
        ) as limits (name, seconds) on facts.name = limits.name
        where node.node_id = '{{ model.unique_id }}'
    ),

    totals as (
        select
            coalesce(jsonb_agg(jsonb_build_object('name', name) || facts order by name), '[]') as sources,
            coalesce(sum((facts ->> 'quarantined')::bigint), 0) as withheld,
            sum((facts ->> 'rows')::numeric) as read_rows
        from known
    ),

    quarantined as (
        select
            coalesce(sum(rows_quarantined), 0) as rows,
            coalesce(
                jsonb_object_agg(split_part(node_id, '.', 3), rows_quarantined) filter (where rows_quarantined > 0), '{}'
            ) as by_table
        from {{ schema }}.receipt_nodes
        where node_id = any({{ text_array(ancestors_of(model.unique_id)) }})
    ),

    complete (complete_until, newest_day) as (
        {%- for unique_id in ancestors_of(model.unique_id, built_after=true)
            if graph.nodes[unique_id].config.get('meta', {}).get('complete_until') %}
            {%- set node = graph.nodes[unique_id] %}
            {%- set told = node.config.meta.complete_until %}
            select
                {{ told.day }}::date,
                {{ told.newest }}::date
            from {{ parent_relation(unique_id) }}
            union all
        {%- endfor %}
        select
            null::date,
            null::date
    )

    insert into {{ schema }}.receipts as receipt (
        table_name, run_id, models, commit_sha, statement_hash, complete_until, newest_day, sources, rows_quarantined,
        quarantined_share, quarantined_by
    )
    select
        '{{ this.identifier }}',
        (select run.run_id from run),
        (select run.models from run),
        (select run.commit_sha from run),
        '{{ local_md5(model.compiled_code or model.raw_code) }}',
        (select min(complete.complete_until) from complete),
        (select max(complete.newest_day) from complete),
        totals.sources,
        totals.withheld + quarantined.rows,
        round((totals.withheld + quarantined.rows) / nullif(totals.read_rows + totals.withheld, 0), 6),
        quarantined.by_table
    from totals
    cross join quarantined
    on conflict (table_name) do update set
        published_at = default,
        run_id = excluded.run_id,
        models = excluded.models,
        commit_sha = excluded.commit_sha,
        statement_hash = excluded.statement_hash,
        complete_until = excluded.complete_until,
        newest_day = excluded.newest_day,
        sources = excluded.sources,
        rows_quarantined = excluded.rows_quarantined,
        quarantined_share = excluded.quarantined_share,
        quarantined_by = excluded.quarantined_by,
        tests_passed = null,
        tests_warned = null,
        tests_failed = null,
        tests_skipped = null,
        tests_not_run = null,
        tested_at = null;

    update {{ schema }}.receipts as receipt
    set findings = {{ schema }}.findings_of(to_jsonb(receipt), receipt.sources, receipt.published_at)
    where receipt.table_name = '{{ this.identifier }}'
{%- endmacro %}


{#
  The run that this session belongs to: its id stands behind the session's name. None for dbt that somebody called.
#}
{% macro receipt_run() -%}
    select
        run_id,
        details -> 'as_of' as as_of,
        details ->> 'models' as models,
        details ->> 'commit' as commit_sha
    from ops.runs
    where
        status = 'running'
        and pipeline in ('transform', 'release')
        and correlation_id = nullif(split_part(current_setting('application_name'), ' ', 2), '')
    order by run_id desc
    limit 1
{%- endmacro %}
