-- One row per household and cutoff that was seen in the time before it: what was known on the evening of that day, and
-- whether the household stayed away in the window after it. Nothing after the cutoff enters a feature. Amounts are summed
-- as decimals, since the sum of doubles depends on the order in which rows are met.
with shopping_days as materialized (
    select
        households.household_id,
        lines.sold_on,
        sum(lines.sales_value) as sales_value,
        sum(lines.shelf_value) as shelf_value
    from gold.fct_basket_lines as lines
    inner join gold.dim_household as households on lines.household_key = households.household_key
    group by households.household_id, lines.sold_on
),

cutoffs as (
    select cutoff from unnest($1::date[]) as given (cutoff)
),

seen as (
    select
        cutoffs.cutoff,
        days.household_id,
        max(days.sold_on) filter (where days.sold_on <= cutoffs.cutoff) as last_day,
        min(days.sold_on) as first_day,
        count(*) filter (where days.sold_on <= cutoffs.cutoff) as visits,
        count(*) filter (where days.sold_on > cutoffs.cutoff - $2::integer and days.sold_on <= cutoffs.cutoff)
            as visits_in_window,
        count(*) filter (where days.sold_on > cutoffs.cutoff - $3::integer and days.sold_on <= cutoffs.cutoff)
            as visits_lately,
        coalesce(sum(days.sales_value) filter (
            where days.sold_on > cutoffs.cutoff - $2::integer and days.sold_on <= cutoffs.cutoff
        ), 0) as sales_in_window,
        coalesce(sum(days.sales_value) filter (
            where days.sold_on > cutoffs.cutoff - $3::integer and days.sold_on <= cutoffs.cutoff
        ), 0) as sales_lately,
        coalesce(sum(days.shelf_value) filter (
            where days.sold_on > cutoffs.cutoff - $3::integer and days.sold_on <= cutoffs.cutoff
        ), 0) as shelf_lately,
        count(*) filter (where days.sold_on > cutoffs.cutoff) = 0 as stayed_away
    from cutoffs
    inner join shopping_days as days on days.sold_on <= cutoffs.cutoff + $2::integer
    group by cutoffs.cutoff, days.household_id
),

present as (
    select household_id
    from gold.dim_household
    where is_current and not is_deleted
)

select
    seen.cutoff,
    seen.household_id,
    seen.stayed_away,
    present.household_id is not null as is_present,
    (seen.cutoff - seen.last_day)::double precision as recency_days,
    seen.visits_in_window::double precision as visits_in_window,
    seen.visits_lately::double precision as visits_lately,
    greatest(seen.sales_in_window, 0)::double precision as sales_in_window,
    greatest(seen.sales_lately, 0)::double precision as sales_lately,
    (seen.cutoff - seen.first_day)::double precision as tenure_days,
    (seen.last_day - seen.first_day)::double precision / greatest(seen.visits - 1, 1) as days_between_visits,
    least(greatest(1 - seen.sales_lately / nullif(seen.shelf_lately, 0), 0), 1)::double precision as discount_share
from seen
left join present on seen.household_id = present.household_id
where
    seen.last_day > seen.cutoff - $3::integer
    and seen.first_day <= seen.cutoff
order by seen.cutoff, seen.household_id
