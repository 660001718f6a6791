with newest as (
    select
        coupon_id,
        _batch_id,
        {{ newest_first('coupon_id') }} as recency
    from {{ ref('stg_marketing__coupons') }}
),

-- A list may name a product twice.
unfolded as (
    select distinct
        listed.coupon_id,
        listed.product_id,
        listed._extracted_at,
        listed._batch_id as _loaded_batch_id
    from {{ ref('stg_marketing__coupon_products') }} as listed
    inner join newest on listed.coupon_id = newest.coupon_id and listed._batch_id = newest._batch_id
    where
        newest.recency = 1
        and listed.product_id is not null
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
