with ranked as (
    select
        *,
        {{ newest_first('coupon_id') }} as recency
    from {{ ref('stg_marketing__coupons') }}
),

cleaned as (
    select
        coupon_id,
        coupon_upc,
        campaign_id,
        minimum_spend,
        minimum_spend_currency,
        coalesce(jsonb_array_length(products), 0) as listed_products,
        updated_at,
        _extracted_at,
        _batch_id as _loaded_batch_id
    from ranked
    where recency = 1
)

select * from cleaned
