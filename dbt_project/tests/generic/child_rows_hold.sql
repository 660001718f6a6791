{#
  The model has one row per element of its parents' lists: places from 1 on without a gap, as many as there are
  elements, none for a parent whose list is empty or missing, and none without a parent.

      data_tests:
        - child_rows_hold:
            arguments:
              parent: ref('stg_marketing__coupons')
              key: [coupon_id]
              list: products
#}
{% test child_rows_hold(model, parent, key, list) %}
    {{ config(store_failures=true) }}
    with lists as (
        select
            {{ key | join(', ') }},
            sum(case when jsonb_typeof({{ list }}) = 'array' then jsonb_array_length({{ list }}) else 0 end) as elements,
            count(*) as copies
        from {{ parent }}
        group by {{ key | join(', ') }}
    ),

    children as (
        select
            {{ key | join(', ') }},
            count(*) as rows_held,
            count(distinct position) as places,
            min(position) as first_place,
            max(position) as last_place
        from {{ model }}
        group by {{ key | join(', ') }}
    )

    select
        {{ key | join(', ') }},
        lists.elements,
        children.rows_held
    from lists
    full join children using ({{ key | join(', ') }})
    where
        coalesce(lists.elements, 0) <> coalesce(children.rows_held, 0)
        or (lists.copies = 1 and children.places <> children.rows_held)
        or (lists.copies = 1 and (children.first_place <> 1 or children.last_place <> children.rows_held))
{% endtest %}
