{#
  A contract's numeric(9, 0) takes numeric(12, 4) without a word, and rounds: dbt compares `numeric` with `numeric`. What
  the model selects must have the contract's precision and scale, by a cast that says that it rounds.

  dbt asks for this before it builds a model with an enforced contract.
#}
{% macro postgres__get_assert_columns_equivalent(sql) -%}
    {{ default__get_assert_columns_equivalent(sql) }}
    {%- do refuse_other_scales(sql) -%}
{%- endmacro %}


{% macro refuse_other_scales(sql) -%}
    {%- set declared = {} -%}
    {%- for column in model.columns.values() if column.data_type is string -%}
        {%- set type = column.data_type | lower | replace(' ', '') -%}
        {%- if type.startswith('numeric(') or type.startswith('decimal(') -%}
            {%- do declared.update({column.name: type | replace('decimal', 'numeric')}) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if execute and declared -%}
        {%- set selected = adapter.quote(model.name ~ '__contract') -%}
        {%- set types -%}
            create temporary table {{ selected }} on commit drop as
            select * from (
                {{ sql }}
            ) as selected
            limit 0;

            select
                attname as column_name,
                format_type(atttypid, atttypmod) as selected_type
            from pg_attribute
            where attrelid = to_regclass('pg_temp.{{ selected }}') and attnum > 0
        {%- endset -%}
        {%- set problems = [] -%}
        {%- for row in run_query(types).rows if row[0] in declared and row[1] | replace(' ', '') != declared[row[0]] -%}
            {%- do problems.append(row[0] ~ ' is ' ~ row[1] ~ ', and ' ~ declared[row[0]] ~ ' by contract') -%}
        {%- endfor -%}
        {%- if problems -%}
            {%- do exceptions.raise_compiler_error(
                model.name ~ ' would be rounded or cut to its contract: ' ~ problems | join('; ')
                ~ '. Cast in the model, which says that it rounds, or change the contract'
            ) -%}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}
