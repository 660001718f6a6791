{{ config(meta={'also_reads': ['raw_shop.promotions']}) }}

-- Not every shop keeps its promotions. Where raw has no such table, this view is empty, and so is all that follows from
-- it; declare the table in flows/sources/shop.py, and the next run fills them.
{%- set promotions = adapter.get_relation(target.database, 'raw_shop', 'promotions') if execute %}

with source as (
    {% if promotions -%}
        select * from {{ promotions }}
    {%- else -%}
        select
            null::bigint as promotion_id,
            null::bigint as product_id,
            null::bigint as store_id,
            null::date as week_starts_on,
            null::text as display_location,
            null::text as mailer_location,
            null::timestamptz as updated_at,
            null::timestamptz as _extracted_at,
            null::bigint as _batch_id,
            null::timestamptz as _deleted_at
        where false
    {%- endif %}
),

renamed as (
    select
        promotion_id,
        product_id,
        store_id,
        week_starts_on,
        display_location,
        mailer_location,
        updated_at,
        _extracted_at,
        _batch_id
    from source
    where _deleted_at is null
)

select * from renamed
