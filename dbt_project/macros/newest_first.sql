{#
  The rank of a row among the copies of its key: 1 is the copy to keep. The source's own clock decides,
  and where it ties, the load that came last.

      {{ newest_first('household_id') }} as recency
#}
{% macro newest_first(key) -%}
    row_number() over (partition by {{ key }} order by updated_at desc, _batch_id desc)
{%- endmacro %}
