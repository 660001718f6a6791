with redemptions as (
    select * from {{ ref('redemption') }}
),

coupons as (
    select * from {{ ref('coupon') }}
),

campaigns as (
    select * from {{ ref('dim_campaign') }}
),

households as (
    select
        household_key,
        household_id,
        effective_at,
        expires_at
    from {{ ref('dim_household') }}
)

select
    redemptions.redemption_id,
    redemptions.redeemed_on,
    coalesce(households.household_key, {{ unknown_version() }}) as household_key,
    redemptions.coupon_id,
    coalesce(coupons.coupon_upc, 'Unknown') as coupon_upc,
    coalesce(campaigns.campaign_id, {{ unknown_member() }}) as campaign_id,
    coalesce(campaigns.campaign_name, 'Unknown') as campaign_name,
    coalesce(campaigns.campaign_type, 'Unknown') as campaign_type,
    coalesce(campaigns.campaign_type_name, 'Unknown') as campaign_type_name,
    redemptions.redeemed_on - campaigns.starts_on as days_into_campaign,
    redemptions.redeemed_on between campaigns.starts_on and campaigns.ends_on as is_within_campaign,
    redemptions.channel,
    redemptions._extracted_at,
    redemptions._loaded_batch_id
from redemptions
left join coupons on redemptions.coupon_id = coupons.coupon_id
left join campaigns on redemptions.campaign_id = campaigns.campaign_id
-- Only the day is known, so the version at noon counts.
left join households
    on
        redemptions.household_id = households.household_id
        and redemptions.redeemed_on + time with time zone '12:00+00' >= households.effective_at
        and redemptions.redeemed_on + time with time zone '12:00+00' < households.expires_at
