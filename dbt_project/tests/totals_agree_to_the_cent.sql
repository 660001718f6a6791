{{ config(store_failures=true) }}

-- Not a cent is lost on the way: what the shop sold is what silver holds and what was quarantined, and gold is silver.
with totals as (
    select
        (select sum(sales_value) from {{ ref('stg_shop__basket_items') }}) as staged,
        (select sum(sales_value) from {{ ref('basket_line') }}) as in_silver,
        (
            select coalesce(sum((row_data ->> 'sales_value')::numeric), 0)
            from {{ ref('quarantine_basket_line') }}
        ) as quarantined,
        (select sum(sales_value) from {{ ref('fct_basket_lines') }}) as in_gold
)

select *
from totals
where
    staged is distinct from in_silver + quarantined
    or in_gold is distinct from in_silver
