{#
  Post-hooks of incremental models: what an incremental run must take away. They run in the model's own transaction
  and do nothing on a full build.
#}
{% macro delete_where_gone(relation, key) -%}
    {% if is_incremental() -%}
    delete from {{ this }} as held
    where not exists (select 1 from {{ relation }} as living where living.{{ key }} = held.{{ key }})
    {%- endif %}
{%- endmacro %}


{% macro delete_where_found(relation, key) -%}
    {% if is_incremental() -%}
    delete from {{ this }} as held
    using {{ relation }} as found
    where found.{{ key }} = held.{{ key }}
    {%- endif %}
{%- endmacro %}
