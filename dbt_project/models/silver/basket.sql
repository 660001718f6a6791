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

cleaned as (
    select
        basket_id,
        household_id,
        store_id,
        sold_at,
        -- The shop's clock is UTC; a till's local day is not recorded.
        (sold_at at time zone 'UTC')::date as sold_on,
        week_number,
        updated_at,
        _extracted_at,
        _batch_id as _loaded_batch_id
    from ranked
    where recency = 1
)

select * from cleaned
