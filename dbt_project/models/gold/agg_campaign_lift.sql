{{ config(pre_hook=with_memory('128MB')) }}

{%- set baseline_days = 182 %}
{%- set least_baseline_days = 84 %}
{%- set strata = [0.2, 0.4, 0.6, 0.8] %}
-- A difference in differences between households that spent alike. What an addressed household spent while the campaign
-- ran, less what it spends in as many days according to its last half year; and from that the same difference of
-- households that no campaign addressed meanwhile, compared within fifths of the addressed ones' earlier spending.
-- Half a year is what makes it honest. Matched by one month, who spent much by chance falls back in the next: 60 % of
-- the windows without a campaign were "significant", and 2 % are (docs/gold.md).
with spending as (
    select
        household_id,
        sold_on,
        sum(sales_value) as sales_value
    from {{ ref('fct_baskets') }}
    where household_id <> {{ unknown_member() }}
    group by household_id, sold_on
),

households as (
    select
        household_id,
        min(sold_on) as first_purchase_on
    from spending
    group by household_id
),

span as (
    select
        min(spending.sold_on) as first_day,
        sales_as_of.last_complete_day as last_day
    from {{ ref('sales_as_of') }} as sales_as_of
    left join spending on true
    group by sales_as_of.last_complete_day
),

campaigns as (
    select
        dim.*,
        least(dim.ends_on, span.last_day) as measured_until,
        least(dim.ends_on, span.last_day) - dim.starts_on + 1 as measured_days,
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

-- The campaign's own days, and as many days just before them, in which it should have no effect: the pre-trend.
shifts as (
    select shift from generate_series(0, 1) as shifted (shift)
),

windows as (
    select
        campaigns.campaign_id,
        shifts.shift,
        campaigns.starts_on - shifts.shift * campaigns.measured_days as starts_on,
        campaigns.starts_on - shifts.shift * campaigns.measured_days + campaigns.measured_days as ends_before,
        greatest(
            campaigns.starts_on - shifts.shift * campaigns.measured_days - {{ baseline_days }}, campaigns.first_day
        ) as baseline_from,
        campaigns.measured_days
    from campaigns
    cross join shifts
    where
        campaigns.measured_days >= 7
        and campaigns.starts_on - shifts.shift * campaigns.measured_days - {{ least_baseline_days }}
        >= campaigns.first_day
),

-- Each household's spending before each day on which a window begins or ends, in their order: one pass over the sales,
-- whatever the number of windows, and no join to look them up.
bound_days as (
    select starts_on as bound_day from windows
    union
    select ends_before as bound_day from windows
    union
    select baseline_from as bound_day from windows
),

bounds as (
    select
        bound_day,
        row_number() over (order by bound_day) as nth
    from bound_days
),

thresholds as (
    select array_agg(bound_day order by bound_day) as bound_days from bounds
),

counted as (
    select
        spending.household_id,
        width_bucket(spending.sold_on, thresholds.bound_days) + 1 as nth,
        sum(spending.sales_value) as sales_value
    from spending
    cross join thresholds
    group by spending.household_id, width_bucket(spending.sold_on, thresholds.bound_days)
),

summed as (
    select
        households.household_id,
        households.first_purchase_on,
        bounds.nth,
        sum(coalesce(counted.sales_value, 0)) over (
            partition by households.household_id order by bounds.nth
        ) as sales_value
    from households
    cross join bounds
    left join counted on households.household_id = counted.household_id and bounds.nth = counted.nth
),

spent_before as materialized (
    select
        household_id,
        first_purchase_on,
        array_agg(sales_value order by nth) as amounts
    from summed
    group by household_id, first_purchase_on
),

bounded as materialized (
    select
        windows.*,
        opening.nth as baseline_nth,
        middle.nth as start_nth,
        closing.nth as end_nth
    from windows
    inner join bounds as opening on windows.baseline_from = opening.bound_day
    inner join bounds as middle on windows.starts_on = middle.bound_day
    inner join bounds as closing on windows.ends_before = closing.bound_day
),

-- Whom another campaign addressed in the window, or in as many days before it.
exposed as (
    select distinct
        windows.campaign_id,
        windows.shift,
        targets.household_id
    from windows
    inner join campaigns as running
        on
            windows.campaign_id <> running.campaign_id
            and windows.ends_before > running.starts_on
            and windows.starts_on - windows.measured_days <= running.ends_on
    inner join targets on running.campaign_id = targets.campaign_id
),

-- Who bought nothing in either time spent nothing, and counts.
observed as (
    select
        windows.campaign_id,
        windows.shift,
        targets.household_id is not null as is_targeted,
        (spent.amounts[windows.start_nth] - spent.amounts[windows.baseline_nth])
        * windows.measured_days / (windows.starts_on - windows.baseline_from) as spent_before,
        spent.amounts[windows.end_nth] - spent.amounts[windows.start_nth] as spent_during
    from bounded as windows
    inner join spent_before as spent on windows.starts_on - {{ least_baseline_days }} > spent.first_purchase_on
    left join targets
        on windows.campaign_id = targets.campaign_id and spent.household_id = targets.household_id
    left join exposed
        on
            windows.campaign_id = exposed.campaign_id
            and windows.shift = exposed.shift
            and spent.household_id = exposed.household_id
    where targets.household_id is not null or exposed.household_id is null
),

fifths as (
    select
        campaign_id,
        shift,
        percentile_disc(array{{ strata }}::double precision[]) within group (order by spent_before) as amounts
    from observed
    where is_targeted
    group by campaign_id, shift
),

strata as (
    select
        observed.campaign_id,
        observed.shift,
        width_bucket(observed.spent_before, fifths.amounts) as stratum,
        count(*) filter (where observed.is_targeted) as targeted,
        count(*) filter (where not observed.is_targeted) as untargeted,
        avg(observed.spent_before) filter (where observed.is_targeted) as targeted_before,
        avg(observed.spent_during) filter (where observed.is_targeted) as targeted_during,
        avg(observed.spent_before) filter (where not observed.is_targeted) as untargeted_before,
        avg(observed.spent_during) filter (where not observed.is_targeted) as untargeted_during,
        var_samp(observed.spent_during - observed.spent_before) filter (where observed.is_targeted)
            as targeted_variance,
        var_samp(observed.spent_during - observed.spent_before) filter (where not observed.is_targeted)
            as untargeted_variance
    from observed
    inner join fifths on observed.campaign_id = fifths.campaign_id and observed.shift = fifths.shift
    group by observed.campaign_id, observed.shift, width_bucket(observed.spent_before, fifths.amounts)
    having
        count(*) filter (where observed.is_targeted) >= 2
        and count(*) filter (where not observed.is_targeted) >= 2
),

-- Weighted by the addressed households, whose lift is asked for.
averaged as (
    select
        campaign_id,
        shift,
        sum(targeted) as targeted,
        sum(untargeted) as untargeted,
        sum(targeted * targeted_before) / sum(targeted) as targeted_before,
        sum(targeted * targeted_during) / sum(targeted) as targeted_during,
        sum(targeted * untargeted_before) / sum(targeted) as untargeted_before,
        sum(targeted * untargeted_during) / sum(targeted) as untargeted_during,
        sqrt(
            sum(targeted * targeted * (targeted_variance / targeted + untargeted_variance / untargeted))
        ) / sum(targeted) as standard_error
    from strata
    group by campaign_id, shift
),

estimates as (
    select
        *,
        targeted_during - targeted_before - (untargeted_during - untargeted_before) as lift
    from averaged
),

-- Campaigns as columns: what is claimed, and what would be claimed without one.
tested as (
    select
        campaign.*,
        pre_trend.lift as pre_trend,
        pre_trend.standard_error as pre_trend_error,
        abs(pre_trend.lift) <= 1.96 * pre_trend.standard_error as has_parallel_trend
    from estimates as campaign
    left join estimates as pre_trend
        on campaign.campaign_id = pre_trend.campaign_id and campaign.shift + 1 = pre_trend.shift
),

responses as (
    select
        redemptions.campaign_id,
        count(*)::integer as redemptions,
        count(distinct targets.household_id)::integer as responding_households
    from {{ ref('fct_redemptions') }} as redemptions
    inner join {{ ref('dim_household') }} as dim_household
        on redemptions.household_key = dim_household.household_key
    left join targets
        on redemptions.campaign_id = targets.campaign_id and dim_household.household_id = targets.household_id
    group by redemptions.campaign_id
)

select
    campaigns.campaign_id,
    campaigns.campaign_name,
    campaigns.campaign_type,
    campaigns.starts_on,
    campaigns.measured_until,
    campaigns.measured_days,
    tested.campaign_id is not null as is_measurable,
    campaigns.households_targeted,
    coalesce(responses.responding_households, 0) as responding_households,
    coalesce(responses.redemptions, 0) as redemptions,
    (coalesce(responses.responding_households, 0)::numeric / nullif(campaigns.households_targeted, 0))::numeric(8, 4)
        as response_rate,
    tested.targeted::integer as targeted_measured,
    tested.untargeted::integer as untargeted_measured,
    tested.targeted_before::numeric(14, 4) as targeted_before,
    tested.targeted_during::numeric(14, 4) as targeted_during,
    tested.untargeted_before::numeric(14, 4) as untargeted_before,
    tested.untargeted_during::numeric(14, 4) as untargeted_during,
    tested.lift::numeric(14, 4) as lift_per_household,
    (tested.lift / nullif(tested.targeted_during - tested.lift, 0))::numeric(20, 4) as lift_share,
    tested.standard_error::numeric(14, 4) as standard_error,
    tested.pre_trend::numeric(14, 4) as pre_trend_per_household,
    tested.pre_trend_error::numeric(14, 4) as pre_trend_error,
    coalesce(tested.has_parallel_trend, false) as has_parallel_trend,
    coalesce(tested.has_parallel_trend and abs(tested.lift) > 1.96 * tested.standard_error, false) as is_significant,
    (tested.lift * tested.targeted)::numeric(14, 2) as incremental_sales,
    campaigns._extracted_at,
    campaigns._loaded_batch_id
from campaigns
left join tested on campaigns.campaign_id = tested.campaign_id and tested.shift = 0
left join responses on campaigns.campaign_id = responses.campaign_id
