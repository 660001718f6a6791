with campaigns as (
    select * from {{ ref('campaign') }}
),

targets as (
    select
        campaign_id,
        count(*)::integer as households_targeted
    from {{ ref('campaign_target') }}
    group by campaign_id
),

coupons as (
    select
        campaign_id,
        count(*)::integer as coupons
    from {{ ref('coupon') }}
    group by campaign_id
)

select
    campaigns.campaign_id,
    campaigns.campaign_name,
    campaigns.campaign_type,
    campaigns.campaign_type_name,
    campaigns.starts_on,
    campaigns.ends_on,
    campaigns.days::integer as days,
    coalesce(targets.households_targeted, 0) as households_targeted,
    coalesce(coupons.coupons, 0) as coupons,
    campaigns._extracted_at,
    campaigns._loaded_batch_id
from campaigns
left join targets on campaigns.campaign_id = targets.campaign_id
left join coupons on campaigns.campaign_id = coupons.campaign_id
union all
-- What a redemption points at whose campaign nobody knows.
select
    {{ unknown_member() }} as campaign_id,
    'Unknown' as campaign_name,
    'Unknown' as campaign_type,
    'Unknown' as campaign_type_name,
    null as starts_on,
    null as ends_on,
    null as days,
    0 as households_targeted,
    0 as coupons,
    {{ beginning_of_time() }} as _extracted_at,
    0 as _loaded_batch_id
