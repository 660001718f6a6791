with source as (
    select * from {{ source('shop', 'baskets') }}
),

renamed as (
    select
        basket_id,
        household_id,
        store_id,
        sold_at,
        week as week_number,
        updated_at,
        _extracted_at,
        _batch_id
    from source
    where _deleted_at is null
)

select * from renamed
