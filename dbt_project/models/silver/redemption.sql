-- depends_on: {{ ref('quality_scores_marketing') }}
-- A rule broken too often stops the build before this.
with ranked as (
    select
        *,
        {{ newest_first('redemption_id') }} as recency
    from {{ ref('stg_marketing__redemptions') }}
),

quarantined as (
    select redemption_id from {{ ref('quarantine_redemption') }}
),

cleaned as (
    select
        redemption_id,
        coupon_id,
        campaign_id,
        household_id,
        redeemed_on,
        {{ null_default('channel') }} as channel,
        updated_at,
        _extracted_at,
        _batch_id as _loaded_batch_id
    from ranked
    where
        recency = 1
        and not exists (
            select 1 from quarantined
            where quarantined.redemption_id = ranked.redemption_id
        )
)

select * from cleaned
