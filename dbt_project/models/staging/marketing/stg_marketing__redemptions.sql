{%- set fields = {
    'campaign_id': ("payload #>> '{campaign,id}'", cast_or_null("payload #>> '{campaign,id}'", 'bigint')),
    'household_id': ("payload #>> '{household,id}'", cast_or_null("payload #>> '{household,id}'", 'bigint')),
    'redeemed_on': ("payload ->> 'redeemed_on'", parse_date("payload ->> 'redeemed_on'")),
} %}
with source as (
    select * from {{ source('marketing', 'redemptions') }}
),

renamed as (
    select
        id as redemption_id,
        payload #>> '{coupon,id}' as coupon_id,
        {{ fields.campaign_id[1] }} as campaign_id,
        {{ fields.household_id[1] }} as household_id,
        {{ fields.redeemed_on[1] }} as redeemed_on,
        payload ->> 'channel' as channel,
        {{ unreadable(fields) }} as unreadable,
        updated_at,
        _extracted_at,
        _batch_id
    from source
)

select * from renamed
