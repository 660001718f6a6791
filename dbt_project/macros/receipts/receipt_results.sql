{#
  After a build: the results of its tests, and in the receipts of the tables that it published how many passed. A build
  that is killed before leaves them without results, which the receipts say. A test that was left out (no-op), because
  what it reads has the same rows as before, keeps its result.
#}
{% macro receipt_results(results) -%}
    {%- if has_receipts() and flags.WHICH in ['build', 'run', 'test'] -%}
        {%- set schema = receipt_schema() -%}
        {%- set words = {'pass': 'passed', 'success': 'passed', 'warn': 'warned', 'fail': 'failed', 'error': 'failed', 'skipped': 'skipped', 'no-op': none} -%}
        {%- set ran = {} -%}
        {%- set published = [] -%}
        {%- for result in results -%}
            {%- if result.node.resource_type == 'test' and (result.status | string) in words -%}
                {%- do ran.update({result.node.unique_id: result}) -%}
            {%- elif result.node.schema == schema and (result.status | string) == 'success' -%}
                {%- do published.append(result.node.alias) -%}
            {%- endif -%}
        {%- endfor -%}
        {%- set tests = graph.nodes.values() | selectattr('resource_type', 'equalto', 'test') | list -%}
        {%- set tables = tables_resting_on(schema) -%}
        with run as (
            {{ receipt_run() }}
        ),

        known (test, name, nodes, tables) as (
            values
            (null::text, null::text, null::text[], null::text[])
            {%- for test in tests %},
                (
                    '{{ test.unique_id }}', '{{ test.name }}', {{ text_array(nodes_tested(test)) }},
                    {{ text_array(tables_of(test, tables)) }}
                )
            {%- endfor %}
        ),

        ran (test, status, failing_rows) as (
            values
            (null::text, null::text, null::bigint)
            {%- for unique_id, result in ran.items() %},
                ('{{ unique_id }}', {{ "'" ~ words[result.status | string] ~ "'" if words[result.status | string] else 'null' }}, {{ result.failures if result.failures is number else 'null' }})
            {%- endfor %}
        ),

        gone as (
            delete from {{ schema }}.receipt_tests as held
            where not exists (select from known where known.test = held.test)
        )

        insert into {{ schema }}.receipt_tests as held (test, name, nodes, tables, status, failing_rows, run_id, tested_at)
        select
            known.test,
            known.name,
            known.nodes,
            known.tables,
            coalesce(ran.status, 'not run'),
            ran.failing_rows,
            (select run.run_id from run),
            case when ran.test is not null then clock_timestamp() end
        from known
        left join ran on known.test = ran.test
        where known.test is not null
        on conflict (test) do update set
            name = excluded.name,
            nodes = excluded.nodes,
            tables = excluded.tables,
            status = case when excluded.status = 'not run' then held.status else excluded.status end,
            failing_rows = case when excluded.status = 'not run' then held.failing_rows else excluded.failing_rows end,
            run_id = case when excluded.status = 'not run' then held.run_id else excluded.run_id end,
            tested_at = coalesce(excluded.tested_at, held.tested_at);

        update {{ schema }}.receipts as receipt
        set
            tests_passed = now.tests_passed,
            tests_warned = now.tests_warned,
            tests_failed = now.tests_failed,
            tests_skipped = now.tests_skipped,
            tests_not_run = now.tests_not_run,
            tested_at = now.tested_at
        from {{ schema }}.receipts_now as now
        where receipt.table_name = now.table_name and receipt.table_name = any({{ text_array(published) }});

        delete from {{ schema }}.receipts
        where not table_name = any({{ text_array(tables.values() | sum(start=[]) | unique | list) }})
    {%- endif -%}
{%- endmacro %}


{#
  By node: the tables of gold that are it, rest on it, or are not built if one of its tests fails.
#}
{% macro tables_resting_on(schema) -%}
    {%- set found = {} -%}
    {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.schema == schema -%}
        {%- for unique_id in [node.unique_id] + ancestors_of(node.unique_id, built_after=true) -%}
            {%- do found.setdefault(unique_id, []).append(node.alias) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}


{#
  A test of references reads both ends, and says something about the one that it is declared at.
#}
{% macro nodes_tested(test) -%}
    {{ return([test.attached_node] if test.attached_node else test.depends_on.nodes) }}
{%- endmacro %}


{% macro tables_of(test, tables) -%}
    {%- set found = [] -%}
    {%- for unique_id in nodes_tested(test) -%}
        {%- do found.extend(tables.get(unique_id, [])) -%}
    {%- endfor -%}
    {{ return(found | unique | sort) }}
{%- endmacro %}
