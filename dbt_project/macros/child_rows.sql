{#
  A list within a row, unfolded: one row per element, with its place in the list from 1 on. A list that is empty, null,
  absent or no list gives no rows. Nothing is dropped and nothing is sorted anew: what repeats in the list repeats here.

      select
          coupon_id,
          position,
          (element ->> 'id')::bigint as product_id
      from ({{ child_rows(ref('stg_marketing__coupons'), 'products', keep=['coupon_id']) }}) as listed

  `list` is SQL over the relation's columns: `products`, or `payload -> 'line_items'` on a raw table.
#}
{% macro child_rows(relation, list, keep) -%}
    select
        {% for column in keep -%}
            parent.{{ column }},
        {% endfor -%}
        listed.position,
        listed.element
    from (select *, {{ list }} as unfolded_list from {{ relation }}) as parent
    cross join lateral jsonb_array_elements(
        case when jsonb_typeof(parent.unfolded_list) = 'array' then parent.unfolded_list end
    ) with ordinality as listed (element, position)
{%- endmacro %}
