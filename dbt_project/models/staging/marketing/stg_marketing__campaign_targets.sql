with source as (
    select * from {{ source('marketing', 'campaign_targets') }}
),

renamed as (
    select
        id as campaign_target_id,
        (payload #>> '{campaign,id}')::bigint as campaign_id,
        (payload #>> '{household,id}')::bigint as household_id,
        updated_at,
        _extracted_at,
        _batch_id
    from source
)

select * from renamed
