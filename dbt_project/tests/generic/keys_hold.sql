{#
  The columns together are a key: no null in any of them, no two rows alike. One scan for what `not_null` on each
  column and `unique` would read several times.

      data_tests:
        - keys_hold:
            arguments:
              columns: [coupon_id, product_id]
#}
{% test keys_hold(model, columns) %}
    {{ config(store_failures=true) }}
    {%- set quoted = [] -%}
    {%- for column in columns -%}
        {%- do quoted.append(adapter.quote(column)) -%}
    {%- endfor %}
    select
        {{ quoted | join(', ') }},
        count(*) as copies
    from {{ model }}
    group by {{ quoted | join(', ') }}
    having
        count(*) > 1
        {% for column in quoted -%}
            or {{ column }} is null
        {% endfor %}
{% endtest %}
