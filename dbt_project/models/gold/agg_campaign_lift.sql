{{ config(pre_hook=with_memory('128MB')) }}

-- Difference in differences. What a targeted household spent while the campaign ran, less what it spent in as many days
-- before; and from that the same difference of the households it did not address, which tells what the season did.
-- Both groups are households that had bought before the first of these days.
with households as (
    select
        household_id,
        min(sold_on) as first_purchase_on
    from {{ ref('fct_baskets') }}
    where household_id <> {{ unknown_member() }}
    group by household_id
),

span as (
    select
        min(sold_on) as first_day,
        max(sold_on) as last_day
    from {{ ref('fct_baskets') }}
),

campaigns as (
    select
        dim.*,
        least(dim.ends_on, span.last_day) as measured_until,
        least(dim.ends_on, span.last_day) - dim.starts_on + 1 as measured_days,
        dim.starts_on - (least(dim.ends_on, span.last_day) - dim.starts_on + 1) as before_from,
        span.first_day
    from {{ ref('dim_campaign') }} as dim
    cross join span
    where dim.campaign_id <> {{ unknown_member() }}
),

targets as (
    select
        campaign_id,
        household_id
    from {{ ref('campaign_target') }}
),

-- A campaign that began before there were sales, or of which less than a week is known, has nothing to be held against.
measurable as (
    select * from campaigns
    where before_from >= first_day and measured_days >= 7
),

observed as (
    select
        measurable.campaign_id,
        households.household_id,
        targets.household_id is not null as is_targeted
    from measurable
    inner join households on measurable.before_from > households.first_purchase_on
    left join targets
        on measurable.campaign_id = targets.campaign_id and households.household_id = targets.household_id
),

spent as (
    select
        measurable.campaign_id,
        baskets.household_id,
        coalesce(sum(baskets.sales_value) filter (where baskets.sold_on < measurable.starts_on), 0) as spent_before,
        coalesce(sum(baskets.sales_value) filter (where baskets.sold_on >= measurable.starts_on), 0) as spent_during
    from measurable
    inner join {{ ref('fct_baskets') }} as baskets
        on baskets.sold_on between measurable.before_from and measurable.measured_until
    group by measurable.campaign_id, baskets.household_id
),

-- Who bought nothing in either time spent nothing, and counts.
differences as (
    select
        observed.campaign_id,
        observed.is_targeted,
        coalesce(spent.spent_before, 0) as spent_before,
        coalesce(spent.spent_during, 0) as spent_during,
        coalesce(spent.spent_during - spent.spent_before, 0) as difference
    from observed
    left join spent on observed.campaign_id = spent.campaign_id and observed.household_id = spent.household_id
),

groups as (
    select
        campaign_id,
        count(*) filter (where is_targeted) as targeted,
        count(*) filter (where not is_targeted) as untargeted,
        avg(spent_before) filter (where is_targeted) as targeted_before,
        avg(spent_during) filter (where is_targeted) as targeted_during,
        avg(spent_before) filter (where not is_targeted) as untargeted_before,
        avg(spent_during) filter (where not is_targeted) as untargeted_during,
        avg(difference) filter (where is_targeted)
        - avg(difference) filter (where not is_targeted) as lift,
        sqrt(
            var_samp(difference) filter (where is_targeted) / count(*) filter (where is_targeted)
            + var_samp(difference) filter (where not is_targeted) / nullif(count(*) filter (where not is_targeted), 0)
        ) as standard_error
    from differences
    group by campaign_id
    having count(*) filter (where is_targeted) >= 2 and count(*) filter (where not is_targeted) >= 2
),

responses as (
    select
        redemptions.campaign_id,
        count(*)::integer as redemptions,
        count(distinct dim_household.household_id)::integer as responding_households
    from {{ ref('fct_redemptions') }} as redemptions
    inner join {{ ref('dim_household') }} as dim_household
        on redemptions.household_key = dim_household.household_key
    group by redemptions.campaign_id
)

select
    campaigns.campaign_id,
    campaigns.campaign_name,
    campaigns.campaign_type,
    campaigns.starts_on,
    campaigns.measured_until,
    campaigns.measured_days,
    groups.campaign_id is not null as is_measurable,
    campaigns.households_targeted,
    coalesce(responses.responding_households, 0) as responding_households,
    coalesce(responses.redemptions, 0) as redemptions,
    (coalesce(responses.responding_households, 0)::numeric / nullif(campaigns.households_targeted, 0))::numeric(8, 4)
        as response_rate,
    groups.targeted::integer as targeted_measured,
    groups.untargeted::integer as untargeted_measured,
    groups.targeted_before::numeric(14, 4) as targeted_before,
    groups.targeted_during::numeric(14, 4) as targeted_during,
    groups.untargeted_before::numeric(14, 4) as untargeted_before,
    groups.untargeted_during::numeric(14, 4) as untargeted_during,
    groups.lift::numeric(14, 4) as lift_per_household,
    (groups.lift / nullif(groups.targeted_during - groups.lift, 0))::numeric(10, 4) as lift_share,
    groups.standard_error::numeric(14, 4) as standard_error,
    coalesce(abs(groups.lift) > 1.96 * groups.standard_error, false) as is_significant,
    (groups.lift * groups.targeted)::numeric(14, 2) as incremental_sales,
    campaigns._extracted_at,
    campaigns._loaded_batch_id
from campaigns
left join groups on campaigns.campaign_id = groups.campaign_id
left join responses on campaigns.campaign_id = responses.campaign_id
