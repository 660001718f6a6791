with ranked as (
    select
        *,
        {{ newest_first('store_id') }} as recency
    from {{ ref('stg_shop__stores') }}
),

cleaned as (
    select
        store_id,
        coalesce(nullif(btrim(store_name), ''), 'Store ' || store_id) as store_name,
        first_sale_on,
        updated_at,
        _extracted_at,
        _batch_id as _loaded_batch_id
    from ranked
    where recency = 1
)

select * from cleaned
