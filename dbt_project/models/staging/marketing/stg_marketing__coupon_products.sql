with source as (
    {{ child_rows(
        source('marketing', 'coupons'),
        "payload -> 'products'",
        keep=['id', 'updated_at', '_extracted_at', '_batch_id']
    ) }}
),

renamed as (
    select
        id as coupon_id,
        position,
        {{ cast_or_null("element ->> 'id'", 'bigint') }} as product_id,
        updated_at,
        _extracted_at,
        _batch_id
    from source
)

select * from renamed
