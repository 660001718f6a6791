with source as (
    select * from {{ source('shop', 'products') }}
),

renamed as (
    select
        product_id,
        manufacturer_id,
        department,
        brand::text as brand,
        product_category,
        product_type,
        package_size,
        updated_at,
        _extracted_at,
        _batch_id
    from source
    where _deleted_at is null
)

select * from renamed
