with source as (
    select * from {{ source('shop', 'household_events') }}
),

renamed as (
    select
        event_id,
        household_id,
        kind as event_kind,
        details,
        occurred_at,
        _extracted_at,
        _batch_id
    from source
)

select * from renamed
