{#
  A pre-hook for the models that sort or hash millions of rows. The default 4 MB spills them to disk.
  `local` ends with the model's transaction.
#}
{% macro with_memory(amount='256MB') -%}
    set local work_mem = '{{ amount }}'
{%- endmacro %}
