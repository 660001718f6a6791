with ranked as (
    select
        *,
        {{ newest_first('coupon_id') }} as recency
    from {{ ref('stg_marketing__coupons') }}
),

-- A list may name a product twice.
unfolded as (
    select distinct
        ranked.coupon_id,
        (listed.product ->> 'id')::bigint as product_id,
        ranked._extracted_at,
        ranked._batch_id as _loaded_batch_id
    from ranked
    cross join lateral jsonb_array_elements(ranked.products) as listed (product)
    where
        ranked.recency = 1
        and listed.product ->> 'id' is not null
),

products as (
    select product_id from {{ ref('product') }}
),

marked as (
    select
        unfolded.coupon_id,
        unfolded.product_id,
        products.product_id is not null as is_known_product,
        unfolded._extracted_at,
        unfolded._loaded_batch_id
    from unfolded
    left join products on unfolded.product_id = products.product_id
)

select * from marked
