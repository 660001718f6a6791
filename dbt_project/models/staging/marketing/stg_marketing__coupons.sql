{%- set fields = {
    'campaign_id': ("payload #>> '{campaign,id}'", cast_or_null("payload #>> '{campaign,id}'", 'bigint')),
    'minimum_spend': ("payload #>> '{terms,min_spend}'", cast_or_null("payload #>> '{terms,min_spend}'", 'numeric(10, 2)')),
} %}
with source as (
    select * from {{ source('marketing', 'coupons') }}
),

renamed as (
    select
        id as coupon_id,
        payload ->> 'upc' as coupon_upc,
        {{ fields.campaign_id[1] }} as campaign_id,
        payload -> 'products' as products,
        {{ fields.minimum_spend[1] }} as minimum_spend,
        payload #>> '{terms,currency}' as minimum_spend_currency,
        {{ unreadable(fields) }} as unreadable,
        updated_at,
        _extracted_at,
        _batch_id
    from source
)

select * from renamed
