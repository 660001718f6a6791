{{
    config(
        materialized='incremental',
        unique_key='basket_line_id',
        incremental_strategy='delete+insert',
        on_schema_change='fail',
        meta={'reads_clock': 'stamp', 'only_after': ['sales_as_of']},
        indexes=[
            {'columns': ['basket_line_id'], 'unique': true},
            {'columns': ['sold_on']}
        ],
        pre_hook=[with_memory(), prefer_hash_joins()],
        post_hook=[
            "{{ delete_where_found(ref('stg_shop__deleted_basket_items'), 'basket_line_id') }}",
            "{{ delete_where_found(ref('quarantine_basket_line'), 'basket_line_id') }}"
        ]
    )
}}

-- depends_on: {{ ref('sales_as_of') }}
-- Its receipt tells how far sales are complete.
with basket_lines as (
    select * from {{ ref('basket_line') }}
),

baskets as (
    select * from {{ ref('basket') }}
),

households as (
    select
        household_key,
        household_id,
        effective_at,
        expires_at
    from {{ ref('dim_household') }}
),

products as (
    select
        product_key,
        product_id,
        effective_at,
        expires_at
    from {{ ref('dim_product') }}
),

stores as (
    select store_id from {{ ref('dim_store') }}
),

-- Versions are half open and cover all time, so every line meets exactly one of each, or the unknown member.
versioned as (
    select
        basket_lines.basket_line_id,
        basket_lines.basket_id,
        baskets.sold_at,
        baskets.sold_on,
        coalesce(households.household_key, {{ unknown_version() }}) as household_key,
        coalesce(products.product_key, {{ unknown_version() }}) as product_key,
        coalesce(stores.store_id, {{ unknown_member() }}) as store_id,
        basket_lines.quantity,
        basket_lines.sales_value,
        basket_lines.retail_discount,
        basket_lines.coupon_discount,
        basket_lines.coupon_match_discount,
        (
            basket_lines.sales_value + basket_lines.retail_discount + basket_lines.coupon_match_discount
        )::numeric(10, 2) as shelf_value,
        basket_lines._extracted_at,
        basket_lines._loaded_batch_id
    from basket_lines
    inner join baskets on basket_lines.basket_id = baskets.basket_id
    left join households
        on
            baskets.household_id = households.household_id
            and baskets.sold_at >= households.effective_at
            and baskets.sold_at < households.expires_at
    left join products
        on
            basket_lines.product_id = products.product_id
            and baskets.sold_at >= products.effective_at
            and baskets.sold_at < products.expires_at
    left join stores on baskets.store_id = stores.store_id
)

select
    *,
    now() as _transformed_at
from versioned
{% if is_incremental() %}
    -- The difference again: new and corrected lines, and those whose basket moved or whose household or product got a
    -- version that was already valid when they were sold.
    where
        not exists (
            select 1 from {{ this }} as held
            where
                held.basket_line_id = versioned.basket_line_id
                and held._loaded_batch_id = versioned._loaded_batch_id
                and held._extracted_at = versioned._extracted_at
                and held.household_key = versioned.household_key
                and held.product_key = versioned.product_key
                and held.store_id = versioned.store_id
                and held.sold_at = versioned.sold_at
                and held.sold_on = versioned.sold_on
                and held.basket_id = versioned.basket_id
        )
{% endif %}
