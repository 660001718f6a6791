{{
    config(
        indexes=[{'columns': ['sold_on']}],
        pre_hook=with_memory(),
        post_hook="{{ gather_statistics() }}"
    )
}}

with basket_lines as (
    select * from {{ ref('fct_basket_lines') }}
),

-- Lines of one basket share moment, store and household. Should they ever not, the basket comes twice and its key stops
-- the build.
baskets as (
    select
        basket_id,
        sold_at,
        sold_on,
        household_key,
        store_id,
        count(*)::integer as basket_lines,
        sum(sales_value)::numeric(12, 2) as sales_value,
        sum(shelf_value)::numeric(12, 2) as shelf_value,
        sum(coupon_discount)::numeric(12, 2) as coupon_discount,
        max(_extracted_at) as _extracted_at,
        max(_loaded_batch_id) as _loaded_batch_id
    from basket_lines
    group by basket_id, sold_at, sold_on, household_key, store_id
),

households as (
    select
        household_key,
        household_id
    from {{ ref('dim_household') }}
)

select
    baskets.basket_id,
    baskets.sold_at,
    baskets.sold_on,
    baskets.household_key,
    households.household_id,
    baskets.store_id,
    baskets.basket_lines,
    baskets.sales_value,
    baskets.shelf_value,
    baskets.coupon_discount,
    baskets._extracted_at,
    baskets._loaded_batch_id
from baskets
inner join households on baskets.household_key = households.household_key
