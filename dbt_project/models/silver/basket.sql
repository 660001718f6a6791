{{
    config(
        indexes=[{'columns': ['basket_id'], 'unique': true}],
        pre_hook=with_memory('128MB'),
        post_hook="{{ gather_statistics() }}"
    )
}}

with ranked as (
    select
        *,
        {{ newest_first('basket_id') }} as recency
    from {{ ref('stg_shop__baskets') }}
),

stores as (
    select
        store_id,
        time_zone
    from {{ ref('store') }}
),

cleaned as (
    select
        ranked.basket_id,
        ranked.household_id,
        ranked.store_id,
        ranked.sold_at,
        -- A retailer's day is the store's: in the demo's data, one sale in six falls on another day in UTC.
        (ranked.sold_at at time zone coalesce(stores.time_zone, 'UTC'))::date as sold_on,
        coalesce(stores.time_zone, 'UTC') as time_zone,
        ranked.week_number,
        ranked.updated_at,
        ranked._extracted_at,
        ranked._batch_id as _loaded_batch_id
    from ranked
    left join stores on ranked.store_id = stores.store_id
    where ranked.recency = 1
)

select * from cleaned
