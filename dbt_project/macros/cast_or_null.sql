{#
  The value as a type, or null where it is not written as one: a cast that cannot stop a build.

      {{ cast_or_null("payload #>> '{campaign,id}'", 'bigint') }} as campaign_id

  Numbers are read as JSON and spreadsheets write them: `-7`, `1234.50`, `.5`, `1e-7`. What PostgreSQL reads as well is
  null: `NaN`, `Infinity`, `0x1F`, `1_000`. So is a number with more decimals than `numeric(10, 2)` keeps: nothing is
  rounded silently.

  Not called `safe_cast`: dbt has a macro of that name, which it casts the rows of unit tests with. For days and moments
  use `parse_date` and `parse_timestamp`: PostgreSQL reads `tomorrow` as a date. `money` depends on the server's locale.
#}
{% macro cast_or_null(value, type) -%}
    {%- set kind = (type | lower).split('(')[0].strip() -%}
    {%- set whole = ['smallint', 'integer', 'int', 'bigint', 'int2', 'int4', 'int8', 'oid'] -%}
    {%- set decimal = ['numeric', 'decimal', 'real', 'double precision', 'float', 'float4', 'float8'] -%}
    {%- set unsafe = {
        'date': 'parse_date', 'timestamp': 'parse_timestamp', 'timestamptz': 'parse_timestamp',
        'timestamp with time zone': 'parse_timestamp', 'timestamp without time zone': 'parse_timestamp',
        'money': "a cast to numeric(p, s)",
    } -%}
    {%- if kind in unsafe -%}
        {{ exceptions.raise_compiler_error("cast_or_null: use " ~ unsafe[kind] ~ " instead of a cast to " ~ type) }}
    {%- endif -%}
    case
        when
            pg_input_is_valid({{ value }}, '{{ type }}')
            {%- if kind in whole %}
            and {{ value }} ~ '^\s*[+-]?[0-9]+\s*$'
            {%- elif kind in decimal %}
            and {{ value }} ~ '^\s*[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]{1,3})?\s*$'
            {%- endif %}
            then {% if kind in ['numeric', 'decimal'] and '(' in type -%}
                case when ({{ value }})::numeric = ({{ value }})::{{ type }} then ({{ value }})::{{ type }} end
            {%- else -%}
                ({{ value }})::{{ type }}
            {%- endif %}
    end
{%- endmacro %}


{#
  What was there and did not cast, as a jsonb object of field and text; null where all did. Rules ask whether it is
  null, and the quarantined row shows it.

      {{ unreadable({
          'campaign_id': ("payload #>> '{campaign,id}'", cast_or_null("payload #>> '{campaign,id}'", 'bigint')),
      }) }} as unreadable
#}
{% macro unreadable(fields) -%}
    nullif(
        jsonb_strip_nulls(
            jsonb_build_object(
                {%- for field, (value, cast) in fields.items() %}
                    '{{ field }}', case when {{ cast }} is null then {{ value }} end{{ ',' if not loop.last }}
                {%- endfor %}
            )
        ),
        '{}'
    )
{%- endmacro %}
