{#
  The text without spaces around, or a word for "not told": null, empty and blank are the same to whoever groups by it.

      {{ null_default('age_band') }} as age_band
#}
{% macro null_default(text, default='Unknown') -%}
    coalesce(nullif(btrim({{ text }}, E' \t\r\n'), ''), '{{ default }}')
{%- endmacro %}
