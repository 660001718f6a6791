{#- An id that is neither a whole number nor written as one; null is no id, and names no product. -#}
{%- set unreadable_ids = '$.products[*].id ? (
    @.type() != "null"
    && !(@.type() == "number" && @ == @.floor())
    && !(@.type() == "string" && @ like_regex "^ *[0-9]{1,18} *$")
)' %}
{%- set fields = {
    'campaign_id': ("payload #>> '{campaign,id}'", cast_or_null("payload #>> '{campaign,id}'", 'bigint')),
    'products': (
        "payload ->> 'products'",
        "case when not jsonb_path_exists(payload, '" ~ unreadable_ids ~ "') then payload -> 'products' end"
    ),
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
