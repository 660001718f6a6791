{% macro beginning_of_time() -%}
    timestamp with time zone '{{ var("beginning_of_time") }} 00:00:00+00'
{%- endmacro %}


{% macro end_of_time() -%}
    timestamp with time zone '{{ var("end_of_time") }} 00:00:00+00'
{%- endmacro %}
