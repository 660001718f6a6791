{#
  Partitions of models that are `materialized='partitioned'`: see partitioned.sql, where the configuration is explained.
#}

{#
  Whether the table is there, partitioned as configured, and not to be built anew. A model asks this where others ask
  is_incremental().
#}
{% macro holds_partitions() -%}
    {%- if not execute or should_full_refresh() -%}
        {{ return(false) }}
    {%- endif -%}
    {%- set partition_by = config.get('partition_by') -%}
    {%- set found -%}
        select 1
        from pg_class
        where
            oid = to_regclass('{{ this }}')
            and relkind = 'p'
            and pg_get_partkeydef(oid) = 'RANGE ({{ partition_by.column }})'
    {%- endset -%}
    {{ return(run_query(found) | length > 0) }}
{%- endmacro %}


{#
  The first day that an incremental run looks at: `late_data` before the newest partition that has begun, moved back to
  where a partition begins. What is older stays as it is until a full refresh. What lies in the future, as plans do and
  typing errors, is looked at by each run. A date as SQL.
#}
{% macro late_data_from() -%}
    {%- set partition_by = config.get('partition_by') -%}
    {%- set newest -%}
        select
            coalesce(
                date_trunc(
                    '{{ partition_by.every }}',
                    max(begins_on) filter (where begins_on <= current_date) - interval '{{ partition_by.late_data }}'
                )::date,
                date '-infinity'
            )
        from ({{ held_partitions(this) }}) as held
    {%- endset -%}
    date '{{ run_query(newest).columns[0].values()[0] }}'
{%- endmacro %}


{#
  SQL for the partitions of a table: `partition_name`, `begins_on`. A partition's name ends in the day it begins on.
#}
{% macro held_partitions(relation) -%}
    -- Materialized, or the planner may read a day out of the names of tables that are no partitions.
    with partitions as materialized (
        select partition.relname::text as partition_name
        from pg_inherits
        inner join pg_class as partition on pg_inherits.inhrelid = partition.oid
        where pg_inherits.inhparent = to_regclass('{{ relation }}')
    )

    select
        partition_name,
        to_date(right(partition_name, 8), 'YYYYMMDD') as begins_on
    from partitions
{%- endmacro %}


{#
  The partitions that rows of `source` (a relation, or a query in parentheses) fall into: a list of
  `{'suffix': 'p20170101', 'from': '2017-01-01', 'to': '2017-02-01'}`, oldest first. An infinite day is refused.
#}
{% macro partitions_of(source) -%}
    {%- set partition_by = config.get('partition_by') -%}
    {%- set wanted -%}
        select
            case
                when isfinite(begins_on) and begins_on >= '0001-01-01' and begins_on < '10000-01-01'
                    then to_char(begins_on, '"p"YYYYMMDD')
            end as suffix,
            begins_on::date::text as begins,
            (begins_on + interval '1 {{ partition_by.every }}')::date::text as ends
        from (
            select distinct date_trunc('{{ partition_by.every }}', {{ partition_by.column }}) as begins_on
            from {{ source }} as source_rows
        ) as found
        where begins_on is not null
        order by begins_on
    {%- endset -%}
    {%- set partitions = [] -%}
    {%- for row in run_query(wanted) -%}
        {%- if row[0] is none -%}
            {%- do exceptions.raise_compiler_error(
                this.identifier ~ ': ' ~ partition_by.column ~ " is '" ~ row[1] ~ "', for which there is no partition; "
                ~ 'leave such rows out, or give them a day between the years 1 and 9999'
            ) -%}
        {%- endif -%}
        {%- do partitions.append({'suffix': row[0], 'from': row[1], 'to': row[2]}) -%}
    {%- endfor -%}
    {{ return(partitions) }}
{%- endmacro %}
