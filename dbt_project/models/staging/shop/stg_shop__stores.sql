with source as (
    select * from {{ source('shop', 'stores') }}
),

renamed as (
    select
        store_id,
        name as store_name,
        first_sale_on,
        updated_at,
        region,
        latitude,
        longitude,
        _extracted_at,
        _batch_id
    from source
    where _deleted_at is null
)

select * from renamed
