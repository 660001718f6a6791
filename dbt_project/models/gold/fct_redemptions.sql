with redemptions as (
    select * from {{ ref('redemption') }}
),

coupons as (
    select * from {{ ref('coupon') }}
),

campaigns as (
    select * from {{ ref('campaign') }}
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
    households.household_key,
    redemptions.coupon_id,
    coupons.coupon_upc,
    redemptions.campaign_id,
    campaigns.campaign_name,
    campaigns.campaign_type,
    campaigns.campaign_type_name,
    redemptions.redeemed_on - campaigns.starts_on as days_into_campaign,
    redemptions.redeemed_on between campaigns.starts_on and campaigns.ends_on as is_within_campaign,
    redemptions.channel,
    redemptions._extracted_at,
    redemptions._loaded_batch_id
from redemptions
inner join coupons on redemptions.coupon_id = coupons.coupon_id
inner join campaigns on redemptions.campaign_id = campaigns.campaign_id
-- Only the day is known, so the version at noon counts.
inner join households
    on
        redemptions.household_id = households.household_id
        and redemptions.redeemed_on + time with time zone '12:00+00' >= households.effective_at
        and redemptions.redeemed_on + time with time zone '12:00+00' < households.expires_at
