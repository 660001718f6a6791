with source as (
    select * from {{ source('shop', 'basket_items') }}
),

renamed as (
    select
        basket_item_id as basket_line_id,
        basket_id,
        product_id,
        quantity,
        sales_value,
        retail_disc as retail_discount,
        coupon_disc as coupon_discount,
        coupon_match_disc as coupon_match_discount,
        updated_at,
        _extracted_at,
        _batch_id
    from source
    where _deleted_at is null
)

select * from renamed
