with ranked as (
    select
        *,
        {{ newest_first('redemption_id') }} as recency
    from {{ ref('stg_marketing__redemptions') }}
),

households as (
    select distinct household_id from {{ ref('households_snapshot') }}
),

coupons as (
    select coupon_id from {{ ref('coupon') }}
),

campaigns as (
    select campaign_id from {{ ref('campaign') }}
),

judged as (
    select
        ranked.*,
        {{ first_rule_broken('redemption') }} as rule_id
    from ranked
    left join households on ranked.household_id = households.household_id
    left join campaigns on ranked.campaign_id = campaigns.campaign_id
    left join coupons on ranked.coupon_id = coupons.coupon_id
    where ranked.recency = 1
)

select
    redemption_id,
    rule_id,
    {{ rule_name('rule_id', 'redemption') }} as rule,
    to_jsonb(judged) - array['recency', 'rule_id'] as row_data,
    _extracted_at,
    _batch_id as _loaded_batch_id
from judged
where rule_id is not null
