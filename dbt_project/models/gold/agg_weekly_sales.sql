with dates as (
    select * from {{ ref('dim_date') }}
),

days as (
    select
        sales.*,
        dates.fiscal_month,
        dates.fiscal_quarter
    from {{ ref('agg_daily_sales') }} as sales
    inner join dates on sales.sold_on = dates.date_day
),

-- Who bought twice in a week is one household.
buyers as (
    select
        dates.fiscal_year,
        dates.fiscal_week,
        count(distinct baskets.household_id) filter (
            where baskets.household_id <> {{ unknown_member() }}
        )::integer as households
    from {{ ref('fct_baskets') }} as baskets
    inner join dates on baskets.sold_on = dates.date_day
    group by dates.fiscal_year, dates.fiscal_week
),

weeks as (
    select
        fiscal_year,
        fiscal_quarter,
        fiscal_month,
        fiscal_week,
        min(sold_on) as first_day,
        count(*)::integer as days,
        count(*) = 7 and bool_and(is_complete) as is_complete,
        sum(basket_lines)::integer as basket_lines,
        sum(baskets)::integer as baskets,
        sum(sales_value) as sales_value,
        sum(shop_discount) as shop_discount,
        sum(coupon_discount) as coupon_discount,
        max(_extracted_at) as _extracted_at,
        max(_loaded_batch_id) as _loaded_batch_id
    from days
    group by fiscal_year, fiscal_quarter, fiscal_month, fiscal_week
),

compared as (
    select
        *,
        sum(sales_value) over (partition by fiscal_year order by fiscal_week) as sales_fiscal_year_to_date,
        -- A week that began before the first day with sales, or is not over, is no measure of another.
        case
            when count(*) filter (where is_complete) over last_four_weeks = 4 then avg(sales_value) over last_four_weeks
        end as sales_4_week_average,
        lag(case when is_complete then sales_value end) over (order by fiscal_year, fiscal_week) as sales_week_before
    from weeks
    window last_four_weeks as (order by fiscal_year, fiscal_week rows between 3 preceding and current row)
)

select
    compared.fiscal_year,
    compared.fiscal_week,
    compared.fiscal_month,
    compared.fiscal_quarter,
    compared.first_day,
    compared.days,
    compared.is_complete,
    compared.basket_lines,
    compared.baskets,
    coalesce(buyers.households, 0) as households,
    compared.sales_value::numeric(14, 2) as sales_value,
    compared.shop_discount::numeric(14, 2) as shop_discount,
    compared.coupon_discount::numeric(14, 2) as coupon_discount,
    (compared.sales_value / nullif(compared.baskets, 0))::numeric(14, 2) as average_basket,
    compared.sales_fiscal_year_to_date::numeric(16, 2) as sales_fiscal_year_to_date,
    compared.sales_4_week_average::numeric(14, 2) as sales_4_week_average,
    compared.sales_week_before::numeric(14, 2) as sales_week_before,
    case
        when compared.is_complete
            then (compared.sales_value - compared.sales_week_before) / nullif(compared.sales_week_before, 0)
    end::numeric(20, 4) as change_on_week_before,
    year_before.sales_value::numeric(14, 2) as sales_year_before,
    case
        when compared.is_complete
            then (compared.sales_value - year_before.sales_value) / nullif(year_before.sales_value, 0)
    end::numeric(20, 4) as change_on_year_before,
    compared._extracted_at,
    compared._loaded_batch_id
from compared
left join buyers on compared.fiscal_year = buyers.fiscal_year and compared.fiscal_week = buyers.fiscal_week
left join compared as year_before
    -- 52 weeks before, as agg_daily_sales: the week of the same number is another one after a year of 53.
    on compared.first_day = year_before.first_day + 364 and year_before.is_complete
