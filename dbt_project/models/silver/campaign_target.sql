with ranked as (
    select
        *,
        {{ newest_first('campaign_id, household_id') }} as recency
    from {{ ref('stg_marketing__campaign_targets') }}
),

cleaned as (
    select
        campaign_id,
        household_id,
        updated_at,
        _extracted_at,
        _batch_id as _loaded_batch_id
    from ranked
    where
        recency = 1
        and unreadable is null
)

select * from cleaned
