with source as (
    select * from {{ source('shop', 'basket_items') }}
),

renamed as (
    select
        basket_item_id as basket_line_id,
        _deleted_at as deleted_at,
        _extracted_at,
        _batch_id
    from source
    where _deleted_at is not null
)

select * from renamed
