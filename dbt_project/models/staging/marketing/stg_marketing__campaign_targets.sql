{%- set fields = {
    'campaign_id': ("payload #>> '{campaign,id}'", cast_or_null("payload #>> '{campaign,id}'", 'bigint')),
    'household_id': ("payload #>> '{household,id}'", cast_or_null("payload #>> '{household,id}'", 'bigint')),
} %}
with source as (
    select * from {{ source('marketing', 'campaign_targets') }}
),

renamed as (
    select
        id as campaign_target_id,
        {{ fields.campaign_id[1] }} as campaign_id,
        {{ fields.household_id[1] }} as household_id,
        {{ unreadable(fields) }} as unreadable,
        updated_at,
        _extracted_at,
        _batch_id
    from source
)

select * from renamed
