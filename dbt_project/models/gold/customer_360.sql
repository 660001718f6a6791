{{ config(pre_hook=with_memory('128MB')) }}

-- The newest version is what a household is now.
with households as (
    select * from {{ ref('dim_household') }}
    where is_current and not is_deleted and household_id <> {{ unknown_member() }}
),

-- A household's sales hang on the version that was valid then.
version_ids as (
    select
        household_key,
        household_id
    from {{ ref('dim_household') }}
),

contacts as (
    select
        household_id,
        email is not null as is_reachable_by_email,
        phone is not null as is_reachable_by_phone,
        wants_newsletter
    from {{ ref('household') }}
),

-- One row per household, product version and basket day would still be a million; the category comes first.
products as (
    select
        product_key,
        product_category
    from {{ ref('dim_product') }}
),

baskets as (
    select
        household_id,
        basket_id,
        sold_on,
        sales_value,
        shelf_value
    from {{ ref('fct_baskets') }}
    where household_id <> {{ unknown_member() }}
),

-- Recency counts from the last complete day, not from today: history must not age because nobody loaded it, and the few
-- who came this morning must not push all others back. Who bought after that day bought on it.
as_of as (
    select coalesce(sales_as_of.last_complete_day, max(baskets.sold_on)) as day
    from {{ ref('sales_as_of') }} as sales_as_of
    left join baskets on true
    group by sales_as_of.last_complete_day
),

purchases as (
    select
        household_id,
        min(sold_on) as first_purchase_on,
        max(sold_on) as last_purchase_on,
        count(*)::integer as baskets,
        sum(sales_value) as sales_value,
        sum(shelf_value) as shelf_value
    from baskets
    group by household_id
),

category_sales as (
    select
        version_ids.household_id,
        products.product_category,
        sum(basket_lines.sales_value) as sales_value
    from {{ ref('fct_basket_lines') }} as basket_lines
    inner join version_ids on basket_lines.household_key = version_ids.household_key
    inner join products on basket_lines.product_key = products.product_key
    where products.product_category <> 'Unknown'
    group by version_ids.household_id, products.product_category
),

favourites as (
    select distinct on (household_id)
        household_id,
        product_category
    from category_sales
    order by household_id asc, sales_value desc, product_category asc
),

redemptions as (
    select
        version_ids.household_id,
        count(*)::integer as redemptions,
        count(distinct redemptions.campaign_id)::integer as campaigns_answered,
        count(distinct campaign_target.campaign_id) as addressed_campaigns_answered,
        max(redemptions.redeemed_on) as last_redemption_on
    from {{ ref('fct_redemptions') }} as redemptions
    inner join version_ids on redemptions.household_key = version_ids.household_key
    left join {{ ref('campaign_target') }} as campaign_target
        on
            redemptions.campaign_id = campaign_target.campaign_id
            and version_ids.household_id = campaign_target.household_id
    group by version_ids.household_id
),

targets as (
    select
        household_id,
        count(*)::integer as campaigns_addressed
    from {{ ref('campaign_target') }}
    group by household_id
),

-- Learned, and as old as the last `medallion predict`: it tells its day.
churn as (
    select
        household_id,
        score,
        decile,
        as_of
    from {{ ref('customer_score') }}
    where model = 'churn'
),

-- Expected, not learned: a household goes on buying as often as it did since its first purchase, for as much each time.
-- When it has been away for more than three times as long as usual, it counts for as much less: of 1, 2, 3, 4, 6 and 10
-- times, three foretold a quarter of the demo's data best. Who came yesterday has not shown how often it buys, and is
-- taken to have been there for four weeks.
observed as (
    select
        purchases.household_id,
        purchases.sales_value,
        purchases.baskets,
        greatest(as_of.day - purchases.first_purchase_on + 1, 28) as days,
        greatest(as_of.day - purchases.last_purchase_on, 0) as days_away
    from purchases
    cross join as_of
),

expected as (
    select
        household_id,
        sales_value / days * {{ var('expected_sales_days') }}
        * least(1, 3 * (days::numeric / baskets) / nullif(days_away, 0)) as sales_value
    from observed
),

-- Buyers are ranked among buyers that are still customers. percent_rank gives equals the same place, so equals share a
-- tier.
ranked as (
    select
        purchases.household_id,
        rank() over (order by purchases.sales_value desc)::integer as sales_rank,
        percent_rank() over (order by purchases.sales_value desc) as share_above,
        least(
            floor(percent_rank() over (order by least(purchases.last_purchase_on, as_of.day)) * 5)::integer + 1, 5
        ) as recency_score,
        least(floor(percent_rank() over (order by purchases.baskets) * 5)::integer + 1, 5) as frequency_score,
        least(floor(percent_rank() over (order by purchases.sales_value) * 5)::integer + 1, 5) as value_score
    from purchases
    inner join households on purchases.household_id = households.household_id
    cross join as_of
)

select
    households.household_id,
    households.household_key,
    households.age_band,
    households.income_band,
    households.household_composition,
    coalesce(contacts.is_reachable_by_email, false) as is_reachable_by_email,
    coalesce(contacts.is_reachable_by_phone, false) as is_reachable_by_phone,
    coalesce(contacts.wants_newsletter, false) as wants_newsletter,
    as_of.day as as_of,
    purchases.first_purchase_on,
    purchases.last_purchase_on,
    purchases.last_purchase_on - purchases.first_purchase_on as tenure_days,
    -- greatest() passes over null, and would make who never bought one of today's buyers.
    case when purchases.household_id is not null then greatest(as_of.day - purchases.last_purchase_on, 0) end
        as recency_days,
    coalesce(purchases.baskets, 0) as baskets,
    coalesce(purchases.sales_value, 0)::numeric(14, 2) as sales_value,
    (purchases.sales_value / purchases.baskets)::numeric(14, 2) as average_basket,
    (1 - purchases.sales_value / nullif(purchases.shelf_value, 0))::numeric(20, 4) as discount_share,
    ranked.sales_rank,
    (1 - ranked.share_above)::numeric(6, 4) as sales_percentile,
    ranked.recency_score,
    ranked.frequency_score,
    ranked.value_score,
    case
        when ranked.share_above < 0.05 then 'platinum'
        when ranked.share_above < 0.20 then 'gold'
        when ranked.share_above < 0.50 then 'silver'
        when ranked.share_above is not null then 'bronze'
        else 'none'
    end as tier,
    case
        when ranked.recency_score >= 4 and ranked.frequency_score >= 4 and ranked.value_score >= 4 then 'champion'
        when ranked.recency_score <= 2 and ranked.frequency_score >= 4 then 'slipping away'
        when ranked.frequency_score >= 4 then 'loyal'
        when ranked.recency_score >= 4 then 'promising'
        when ranked.recency_score <= 2 then 'lost'
        when ranked.recency_score is not null then 'occasional'
        else 'none'
    end as segment,
    coalesce(expected.sales_value, 0)::numeric(14, 2) as expected_sales,
    churn.score as churn_score,
    churn.decile::integer as churn_decile,
    churn.as_of as churn_scored_as_of,
    favourites.product_category as favourite_category,
    coalesce(redemptions.redemptions, 0) as redemptions,
    redemptions.last_redemption_on,
    coalesce(targets.campaigns_addressed, 0) as campaigns_addressed,
    coalesce(redemptions.campaigns_answered, 0) as campaigns_answered,
    (
        coalesce(redemptions.addressed_campaigns_answered, 0)::numeric / nullif(targets.campaigns_addressed, 0)
    )::numeric(6, 4) as campaign_response_rate,
    households._extracted_at,
    households._loaded_batch_id
from households
cross join as_of
left join contacts on households.household_id = contacts.household_id
left join purchases on households.household_id = purchases.household_id
left join ranked on households.household_id = ranked.household_id
left join favourites on households.household_id = favourites.household_id
left join redemptions on households.household_id = redemptions.household_id
left join targets on households.household_id = targets.household_id
left join expected on households.household_id = expected.household_id
left join churn on households.household_id = churn.household_id
