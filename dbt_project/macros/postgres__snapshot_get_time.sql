{#
  dbt cuts the time zone off the moment of a snapshot, which then depends on the session's zone.
  With it, versions and source timestamps compare as moments.
#}
{% macro postgres__snapshot_get_time() -%}
    now()
{%- endmacro %}
