with source as (
    select * from {{ source('marketing', 'redemptions') }}
),

renamed as (
    select
        id as redemption_id,
        payload #>> '{coupon,id}' as coupon_id,
        (payload #>> '{campaign,id}')::bigint as campaign_id,
        (payload #>> '{household,id}')::bigint as household_id,
        (payload ->> 'redeemed_on')::date as redeemed_on,
        payload ->> 'channel' as channel,
        updated_at,
        _extracted_at,
        _batch_id
    from source
)

select * from renamed
