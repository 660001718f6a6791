-- No feature of a day may know anything of that day or later, or a model learns what it will not be told. Hence every
-- window ends one row before the current one, a department's rows begin the day after its first sale, and the day after
-- the last sales has a row too: it is the one to predict.
with sales as (
    select * from {{ ref('agg_daily_department_sales') }}
),

dates as (
    select * from {{ ref('dim_date') }}
),

-- A day that is not over would be learned as a bad one; it is the one to predict.
last_sales as (
    select max(sold_on) filter (where is_complete) as last_day from sales
),

departments as (
    select
        department,
        min(sold_on) as first_sold_on
    from sales
    where is_complete
    group by department
),

-- Days without sales count as zero, and the day to predict has none yet.
days as (
    select
        departments.department,
        departments.first_sold_on,
        dates.date_day,
        last_sales.last_day,
        case when dates.date_day <= last_sales.last_day then coalesce(sales.sales_value, 0) end as sales_value,
        sales._extracted_at,
        sales._loaded_batch_id
    from departments
    cross join last_sales
    inner join dates on dates.date_day between departments.first_sold_on and last_sales.last_day + 1
    left join sales on departments.department = sales.department and dates.date_day = sales.sold_on
),

windowed as (
    select
        *,
        lag(sales_value, 1) over by_day as sales_lag_1,
        lag(sales_value, 7) over by_day as sales_lag_7,
        lag(sales_value, 14) over by_day as sales_lag_14,
        lag(sales_value, 21) over by_day as sales_lag_21,
        lag(sales_value, 28) over by_day as sales_lag_28,
        lag(sales_value, 364) over by_day as sales_lag_364,
        case when count(*) over seven_days_before = 7 then avg(sales_value) over seven_days_before end
            as sales_mean_7,
        case when count(*) over four_weeks_before = 28 then avg(sales_value) over four_weeks_before end
            as sales_mean_28,
        case when count(*) over four_weeks_before = 28 then stddev_samp(sales_value) over four_weeks_before end
            as sales_deviation_28,
        max(_extracted_at) over all_before as extracted_before,
        max(_loaded_batch_id) over all_before as batch_before
    from days
    window
        by_day as (partition by department order by date_day),
        seven_days_before as (partition by department order by date_day rows between 7 preceding and 1 preceding),
        four_weeks_before as (partition by department order by date_day rows between 28 preceding and 1 preceding),
        all_before as (partition by department order by date_day rows between unbounded preceding and 1 preceding)
),

-- What is planned is known ahead: campaigns by their dates, and what stands on display or in the mailer by its week.
campaigns as (
    select
        dates.date_day,
        count(*)::integer as campaigns_running,
        sum(running.households_targeted)::integer as households_targeted
    from dates
    inner join {{ ref('dim_campaign') }} as running on dates.date_day between running.starts_on and running.ends_on
    group by dates.date_day
),

promotions as (
    select
        promoted.week_starts_on,
        products.department,
        count(*) filter (where promoted.is_on_display)::integer as promotions_on_display,
        count(*) filter (where promoted.is_in_mailer)::integer as promotions_in_mailer
    from {{ ref('fct_promotions') }} as promoted
    inner join {{ ref('dim_product') }} as products on promoted.product_key = products.product_key
    group by promoted.week_starts_on, products.department
)

select
    windowed.department,
    windowed.date_day,
    windowed.date_day > windowed.last_day as is_to_predict,
    windowed.sales_value::numeric(14, 2) as sales_value,
    windowed.sales_lag_1::numeric(14, 2) as sales_lag_1,
    windowed.sales_lag_7::numeric(14, 2) as sales_lag_7,
    windowed.sales_lag_14::numeric(14, 2) as sales_lag_14,
    windowed.sales_lag_21::numeric(14, 2) as sales_lag_21,
    windowed.sales_lag_28::numeric(14, 2) as sales_lag_28,
    windowed.sales_lag_364::numeric(14, 2) as sales_lag_364,
    windowed.sales_mean_7::numeric(14, 4) as sales_mean_7,
    windowed.sales_mean_28::numeric(14, 4) as sales_mean_28,
    windowed.sales_deviation_28::numeric(14, 4) as sales_deviation_28,
    (
        (windowed.sales_lag_7 + windowed.sales_lag_14 + windowed.sales_lag_21 + windowed.sales_lag_28) / 4
    )::numeric(14, 4) as sales_same_weekday_mean_4,
    windowed.date_day - windowed.first_sold_on as days_since_first_sale,
    dates.day_of_week,
    dates.is_weekend,
    dates.day_of_month,
    dates.calendar_month,
    dates.fiscal_month,
    dates.fiscal_week,
    coalesce(campaigns.campaigns_running, 0) as campaigns_running,
    coalesce(campaigns.households_targeted, 0) as households_targeted,
    coalesce(promotions.promotions_on_display, 0) as promotions_on_display,
    coalesce(promotions.promotions_in_mailer, 0) as promotions_in_mailer,
    windowed.extracted_before as _extracted_at,
    windowed.batch_before as _loaded_batch_id
from windowed
inner join dates on windowed.date_day = dates.date_day
left join campaigns on windowed.date_day = campaigns.date_day
left join promotions
    on
        windowed.department = promotions.department
        and windowed.date_day between promotions.week_starts_on and promotions.week_starts_on + 6
where windowed.date_day > windowed.first_sold_on
