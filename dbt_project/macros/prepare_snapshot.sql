{#
  Before a snapshot compares: what dbt would get wrong for good, or fail on with a message that tells nobody anything.

  - A row without its key matches no version, so each run would add two; two rows of one key add a version each. Both are
    refused before anything is written.
  - A column whose type changed gets the new type in the history, if no value changes by it; else it is refused, since
    PostgreSQL cannot compare the two.
  - A new column of `check_cols` gets its present value in the versions in force. dbt would take every row for changed.
    Former versions have null: what the value was then is not known.

  A pre-hook of all snapshots: dbt_project.yml.
#}
{% macro prepare_snapshot() -%}
    {%- if execute -%}
        {%- set keys = config.get('unique_key') -%}
        {%- set keys = [keys] if keys is string else keys -%}
        {%- do refuse_rows_without_key(keys) -%}
        {%- if load_cached_relation(this) is not none -%}
            {%- do follow_columns(keys) -%}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}


{% macro refuse_rows_without_key(keys) -%}
    {%- set known = keys | join(' is not null and ') ~ ' is not null' -%}
    {%- set counted -%}
        select
            count(*) - count(*) filter (where {{ known }}) as without_key,
            count(*) filter (where {{ known }}) - count(distinct ({{ keys | join(', ') }})) filter (where {{ known }})
                as copies
        from ({{ model.compiled_code }}) as snapshot_rows
    {%- endset -%}
    {%- set found = run_query(counted).rows[0] -%}
    {%- if found[0] > 0 or found[1] > 0 -%}
        {%- do exceptions.raise_compiler_error(
            model.name ~ ': ' ~ found[0] ~ ' rows have no ' ~ keys | join(', ') ~ ', and ' ~ found[1]
            ~ ' repeat one: versions could not be told apart, and each run would add more. Leave such rows out of the '
            ~ 'relation, or choose another unique_key; nothing was written'
        ) -%}
    {%- endif -%}
{%- endmacro %}


{% macro follow_columns(keys) -%}
    {%- set present = adapter.quote(model.name ~ '__columns') -%}
    {%- set differing -%}
        create temporary table {{ present }} on commit drop as
        select * from ({{ model.compiled_code }}) as snapshot_rows
        limit 0;

        select
            present.attname as column_name,
            format_type(present.atttypid, present.atttypmod) as present_type,
            format_type(held.atttypid, held.atttypmod) as held_type
        from pg_attribute as present
        left join pg_attribute as held
            on
                held.attrelid = to_regclass('{{ this }}')
                and present.attname = held.attname
                and not held.attisdropped
        where
            present.attrelid = to_regclass('pg_temp.{{ present }}')
            and present.attnum > 0
            and (
                held.attname is null
                or format_type(present.atttypid, present.atttypmod) <> format_type(held.atttypid, held.atttypmod)
            )
    {%- endset -%}
    {%- set checked = config.get('check_cols') -%}
    {%- for column in run_query(differing).rows -%}
        {%- if column[2] is not none -%}
            {%- do retype_column(column[0], column[2], column[1]) -%}
        {%- elif config.get('strategy') == 'check' and (checked == 'all' or column[0] in checked) -%}
            {%- do fill_new_column(column[0], column[1], keys) -%}
        {%- endif -%}
    {%- endfor -%}
{%- endmacro %}


{% macro retype_column(name, held_type, present_type) -%}
    {%- set column = adapter.quote(name) -%}
    {%- set changed -%}
        select count(*)
        from {{ this }}
        where
            case
                when not pg_input_is_valid({{ column }}::text, '{{ present_type }}') then true
                else {{ column }}::{{ present_type }}::{{ held_type }}::text <> {{ column }}::text
            end
    {%- endset -%}
    {%- set count = run_query(changed).columns[0].values()[0] -%}
    {%- if count > 0 -%}
        {%- do exceptions.raise_compiler_error(
            model.name ~ ': ' ~ name ~ ' was ' ~ held_type ~ ' and is ' ~ present_type ~ ', which ' ~ count
            ~ ' values of the history do not fit. Cast it to ' ~ held_type ~ ' in the relation, or give it another name; '
            ~ 'nothing was written'
        ) -%}
    {%- endif -%}
    {%- set alter -%}
        alter table {{ this }} alter column {{ column }} type {{ present_type }} using {{ column }}::{{ present_type }}
    {%- endset -%}
    {%- do run_query(wait_for_lock(this, alter)) -%}
{%- endmacro %}


{% macro fill_new_column(name, type, keys) -%}
    {%- set column = adapter.quote(name) -%}
    {%- set add -%}
        alter table {{ this }} add column {{ column }} {{ type }}
    {%- endset -%}
    {%- do run_query(wait_for_lock(this, add)) -%}
    {%- set until = config.get('dbt_valid_to_current') -%}
    {%- set fill -%}
        update {{ this }} as held
        set {{ column }} = present.{{ column }}
        from ({{ model.compiled_code }}) as present
        where
            (held.dbt_valid_to is null {%- if until %} or held.dbt_valid_to = {{ until }} {%- endif %})
            {% for key in keys -%}
                and held.{{ key }} = present.{{ key }}
            {% endfor -%}
            {%- if config.get('hard_deletes') == 'new_record' -%}
                and held.dbt_is_deleted = 'False'
            {%- endif -%}
    {%- endset -%}
    {%- do run_query(fill) -%}
{%- endmacro %}
