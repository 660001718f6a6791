with source as (
    select * from {{ source('marketing', 'campaigns') }}
),

renamed as (
    select
        id as campaign_id,
        payload ->> 'name' as campaign_name,
        payload ->> 'type' as campaign_type,
        (payload #>> '{period,starts_on}')::date as starts_on,
        (payload #>> '{period,ends_on}')::date as ends_on,
        updated_at,
        _extracted_at,
        _batch_id
    from source
)

select * from renamed
