with ranked as (
    select
        *,
        {{ newest_first('campaign_id') }} as recency
    from {{ ref('stg_marketing__campaigns') }}
),

campaign_types as (
    select * from {{ ref('campaign_types') }}
),

cleaned as (
    select
        ranked.campaign_id,
        coalesce(nullif({{ trimmed('ranked.campaign_name') }}, ''), 'Campaign ' || ranked.campaign_id) as campaign_name,
        ranked.campaign_type,
        coalesce(campaign_types.campaign_type_name, 'Unknown') as campaign_type_name,
        ranked.starts_on,
        ranked.ends_on,
        ranked.ends_on - ranked.starts_on + 1 as days,
        ranked.updated_at,
        ranked._extracted_at,
        ranked._batch_id as _loaded_batch_id
    from ranked
    left join campaign_types on ranked.campaign_type = campaign_types.campaign_type
    where ranked.recency = 1
)

select * from cleaned
