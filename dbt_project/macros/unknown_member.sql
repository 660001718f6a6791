{#
  The number of the member that stands for "not known" in every dimension. A fact whose partner is missing points at it
  instead of falling out of the join, keeps the partner's own number beside it, and is pointed at the right member by
  the run that finds it.
#}
{% macro unknown_member() -%} (-1) {%- endmacro %}


{#
  The key of that member in a dimension with versions; it has one, which covers all time.
#}
{% macro unknown_version() -%}
    {{ version_key(unknown_member(), 1) }}
{%- endmacro %}
