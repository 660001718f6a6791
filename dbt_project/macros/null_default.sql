{#
  The text without white space around it, or a word for what is not known: null, empty and blank are the same to whoever
  groups by it.

      {{ null_default('age_band') }} as age_band
#}
{% macro null_default(text, default='Unknown') -%}
    coalesce(nullif({{ trimmed(text) }}, ''), '{{ default }}')
{%- endmacro %}
