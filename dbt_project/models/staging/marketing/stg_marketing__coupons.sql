with source as (
    select * from {{ source('marketing', 'coupons') }}
),

renamed as (
    select
        id as coupon_id,
        payload ->> 'upc' as coupon_upc,
        (payload #>> '{campaign,id}')::bigint as campaign_id,
        payload -> 'products' as products,
        (payload #>> '{terms,min_spend}')::numeric(10, 2) as minimum_spend,
        payload #>> '{terms,currency}' as minimum_spend_currency,
        updated_at,
        _extracted_at,
        _batch_id
    from source
)

select * from renamed
