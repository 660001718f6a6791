{#
  The surrogate key of one version of an entity: 16 bytes, the same in every rebuild, since version numbers only grow.
  A text of 32 hex digits would make the largest fact table 50 MB bigger for each dimension.
#}
{% macro version_key(id, version) -%}
    md5({{ id }}::text || '/' || {{ version }}::text)::uuid
{%- endmacro %}
