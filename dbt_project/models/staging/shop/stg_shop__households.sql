with source as (
    select * from {{ source('shop', 'households') }}
),

renamed as (
    select
        household_id,
        full_name,
        email,
        phone,
        age_band,
        income_band::text as income_band,
        home_ownership,
        marital_status,
        household_size,
        household_comp as household_composition,
        kids_count,
        preferences,
        updated_at,
        latitude,
        longitude,
        _extracted_at,
        _batch_id
    from source
    where _deleted_at is null
)

select * from renamed
