{#
  A table partitioned by ranges of a date column, for facts too large to be written anew each time.

      {{
          config(
              materialized='partitioned',
              partition_by={
                  'column': 'week_starts_on',
                  'every': 'month',
                  'late_data': '2 months',
                  'days_from': "{{ ref('stg_shop__promotions') }}"
              },
              indexes=[{'columns': ['promotion_id', 'week_starts_on'], 'unique': true}]
          )
      }}

      select … {% if holds_partitions() %} where week_starts_on >= {{ late_data_from() }} {% endif %}

  `column`     a date that is never null
  `every`      day, week, month, quarter or year
  `late_data`  how far behind the newest partition that has begun a run still looks for rows that are new, changed or gone
  `days_from`  optional: a relation with the column, from which a full build learns which partitions there are; without
               it the model's own query runs twice

  A full build writes a partitioned table beside the one in use and takes its place in the same transaction. Any other
  run replaces the partitions from `late_data_from()` on: each is written and indexed beside the one in use, and all are
  exchanged at once. So readers wait for the exchange, not for the writing, and a run that fails changes nothing. A
  partition whose rows are all gone goes too. Partitions come with their first row; there is no default partition to
  collect what was not foreseen. Indexes are those of the table, made for each partition; PostgreSQL wants the column in
  unique ones.
#}
{% materialization partitioned, adapter='postgres' %}
    {%- set partition_by = config.require('partition_by') -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- set target = this.incorporate(type='table') -%}
    {%- set beside = make_intermediate_relation(target) -%}
    {%- set grants = config.get('grants') -%}
    {%- set replaces_all = not holds_partitions() -%}
    {%- do check_partitioning(target, partition_by) -%}

    {{ drop_relation_if_exists(load_cached_relation(beside)) }}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {%- if replaces_all -%}
        {%- do build_all_partitions(existing, target, beside, partition_by) -%}
    {%- else -%}
        {%- do replace_late_partitions(existing, target, partition_by) -%}
    {%- endif -%}

    {%- do apply_grants(target, grants, should_revoke=should_revoke(existing, replaces_all)) -%}
    {%- do persist_docs(target, model) -%}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target]}) }}
{% endmaterialization %}


{#
  Refuse early what PostgreSQL would refuse late, or cut off silently.
#}
{% macro check_partitioning(target, partition_by) -%}
    {%- set problems = [] -%}
    {%- if not config.get('contract').enforced -%}
        {%- do problems.append('it needs an enforced contract: a partitioned table is made from declared columns') -%}
    {%- endif -%}
    {%- if partition_by.every not in ['day', 'week', 'month', 'quarter', 'year'] -%}
        {%- do problems.append("partition_by.every is day, week, month, quarter or year, not '" ~ partition_by.every ~ "'") -%}
    {%- endif -%}
    {%- for needed in ['column', 'late_data'] if needed not in partition_by -%}
        {%- do problems.append('partition_by needs ' ~ needed) -%}
    {%- endfor -%}
    {#- `__dbt_tmp` and `_p20170101` come behind the name; PostgreSQL cuts names off after 63 bytes. -#}
    {%- if target.identifier | length > 63 - 19 -%}
        {%- do problems.append('its name leaves no room for those of partitions: 44 characters at most') -%}
    {%- endif -%}
    {%- if problems -%}
        {%- do exceptions.raise_compiler_error(target.identifier ~ ' cannot be partitioned: ' ~ problems | join('; ')) -%}
    {%- endif -%}
{%- endmacro %}


{% macro build_all_partitions(existing, target, beside, partition_by) -%}
    {%- set days_from = render(partition_by.days_from) if partition_by.days_from else '(' ~ sql ~ ')' -%}
    {%- set partitions = partitions_of(days_from) -%}
    {%- call statement('create') -%}
        {{ get_assert_columns_equivalent(sql) }}
        create table {{ beside }} {{ get_table_columns_and_constraints() }}
        partition by range ({{ partition_by.column }});
        {% for partition in partitions -%}
            create table {{ partition_relation(beside, partition.suffix) }} partition of {{ beside }}
            for values from ('{{ partition.from }}') to ('{{ partition.to }}');
        {% endfor %}
    {%- endcall -%}
    {%- call statement('main') -%}
        insert into {{ beside }} ({{ adapter.dispatch('get_column_names', 'dbt')() }})
        {{ get_select_subquery(sql) }}
    {%- endcall -%}
    {%- do create_indexes(beside) -%}
    {%- if existing is not none -%}
        {%- if keeps_permissions(existing) -%}
            {%- call statement('keep_permissions') -%}
                {{ wait_for_lock(existing, keep_permissions(existing.render(), beside.render(), target.identifier)) }}
            {%- endcall -%}
        {%- endif -%}
        {%- do adapter.drop_relation(existing) -%}
    {%- endif -%}
    {%- do adapter.rename_relation(beside, target) -%}
    {%- if partitions -%}
        {%- call statement('rename') -%}
            {% for partition in partitions -%}
                alter table {{ partition_relation(beside, partition.suffix) }}
                rename to {{ partition_relation(target, partition.suffix).include(database=False, schema=False) }};
            {% endfor %}
        {%- endcall -%}
    {%- endif -%}
{%- endmacro %}


{% macro replace_late_partitions(existing, target, partition_by) -%}
    {%- set late_from = late_data_from() -%}
    {%- set delta = make_temp_relation(target) -%}
    {%- do run_query(get_create_table_as_sql(True, delta, sql)) -%}
    {%- do process_schema_changes('fail', delta, existing) -%}
    {%- set too_old = run_query(
        'select count(*) from ' ~ delta ~ ' where ' ~ partition_by.column ~ ' < ' ~ late_from
        ~ ' or ' ~ partition_by.column ~ ' is null'
    ).columns[0].values()[0] -%}
    {%- if too_old > 0 -%}
        {%- do exceptions.raise_compiler_error(
            target.identifier ~ ': ' ~ too_old ~ ' rows lie outside the partitions that this run replaces, from '
            ~ late_from ~ ' on; select only rows where ' ~ partition_by.column ~ ' >= late_data_from()'
        ) -%}
    {%- endif -%}
    {%- set partitions = partitions_of(delta) -%}
    {%- call statement('main') -%}
        {% for partition in partitions -%}
            create table {{ partition_relation(target, partition.suffix, '_new') }}
            (like {{ target }} including defaults including constraints);
            insert into {{ partition_relation(target, partition.suffix, '_new') }}
            select * from {{ delta }}
            where
                {{ partition_by.column }} >= '{{ partition.from }}'
                and {{ partition_by.column }} < '{{ partition.to }}';
            {{ index_like_partitioned(partition_relation(target, partition.suffix, '_new')) }}
        {% endfor %}
        select count(*) from {{ delta }};
    {%- endcall -%}
    {%- set held -%}
        select partition_name from ({{ held_partitions(target) }}) as held where begins_on >= {{ late_from }}
    {%- endset -%}
    {%- set replaced = run_query(held).columns[0].values() -%}
    {%- if replaced or partitions -%}
        {%- set exchange -%}
            {% for partition in partitions if keeps_permissions(target) -%}
                {%- set held = partition_relation(target, partition.suffix) -%}
                {{ keep_permissions(
                    held.render(), partition_relation(target, partition.suffix, '_new').render(), held.identifier,
                    partition_of=target.render()
                ) }};
            {% endfor -%}
            {% for name in replaced -%}
                drop table {{ api.Relation.create(database=target.database, schema=target.schema, identifier=name) }};
            {% endfor -%}
            {% for partition in partitions -%}
                alter table {{ partition_relation(target, partition.suffix, '_new') }}
                rename to {{ partition_relation(target, partition.suffix).include(database=False, schema=False) }};
                alter table {{ target }} attach partition {{ partition_relation(target, partition.suffix) }}
                for values from ('{{ partition.from }}') to ('{{ partition.to }}');
            {% endfor %}
        {%- endset -%}
        {%- call statement('exchange') -%}
            {{ wait_for_lock(target, exchange) }}
        {%- endcall -%}
    {%- endif -%}
{%- endmacro %}


{#
  The table's indexes for a partition that is not attached yet: attaching takes them over instead of making its own
  while readers wait.
#}
{% macro index_like_partitioned(relation) -%}
    {%- for index in config.get('indexes', default=[]) -%}
        create {{ 'unique' if index.unique }} index on {{ relation }}
        {{ 'using ' ~ index.type if index.type }} ({{ index.columns | join(', ') }});
    {% endfor -%}
{%- endmacro %}


{% macro partition_relation(parent, suffix, ending='') -%}
    {{ return(
        api.Relation.create(
            database=parent.database, schema=parent.schema,
            identifier=parent.identifier ~ '_' ~ suffix ~ ending, type='table'
        )
    ) }}
{%- endmacro %}
