{#
  Schemas carry the names written in dbt_project.yml in every target: `silver` is silver, not `staging_silver`.
  MEDALLION_DBT_SCHEMA_PREFIX=pr_42_ puts a whole build beside it instead: `pr_42_silver`.
#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ env_var('MEDALLION_DBT_SCHEMA_PREFIX', '') }}{{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
