{#
  The value as a type, or null where it does not read as one: a cast that cannot stop a build.

      {{ cast_or_null("payload #>> '{campaign,id}'", 'bigint') }} as campaign_id

  Not called `safe_cast`: dbt has a macro of that name, which it casts the rows of unit tests with.

  For days and moments use `parse_date` and `parse_timestamp`: PostgreSQL reads `tomorrow` as a date.
#}
{% macro cast_or_null(value, type) -%}
    case when pg_input_is_valid({{ value }}, '{{ type }}') then ({{ value }})::{{ type }} end
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
