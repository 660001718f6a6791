{%- set fields = {
    'starts_on': ("payload #>> '{period,starts_on}'", parse_date("payload #>> '{period,starts_on}'")),
    'ends_on': ("payload #>> '{period,ends_on}'", parse_date("payload #>> '{period,ends_on}'")),
} %}
with source as (
    select * from {{ source('marketing', 'campaigns') }}
),

renamed as (
    select
        id as campaign_id,
        payload ->> 'name' as campaign_name,
        payload ->> 'type' as campaign_type,
        {{ fields.starts_on[1] }} as starts_on,
        {{ fields.ends_on[1] }} as ends_on,
        {{ unreadable(fields) }} as unreadable,
        updated_at,
        _extracted_at,
        _batch_id
    from source
)

select * from renamed
