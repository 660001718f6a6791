with sales as (
    select * from {{ ref('agg_daily_department_sales') }}
),

span as (
    select
        min(sales.sold_on) as first_day,
        max(sales.sold_on) as last_day,
        sales_as_of.last_complete_day
    from sales
    cross join {{ ref('sales_as_of') }} as sales_as_of
    group by sales_as_of.last_complete_day
),

-- A running number, so that the month before January is December and the year before is twelve months back.
months as (
    select
        dates.fiscal_year,
        dates.fiscal_quarter,
        dates.fiscal_month,
        dates.fiscal_year * 12 + dates.fiscal_month as month_number,
        min(dates.date_day) as first_day,
        max(dates.date_day) as last_day,
        count(*)::numeric / 7 as weeks,
        coalesce(min(dates.date_day) >= span.first_day and max(dates.date_day) <= span.last_complete_day, false)
            as is_complete
    from {{ ref('dim_date') }} as dates
    cross join span
    group by
        dates.fiscal_year, dates.fiscal_quarter, dates.fiscal_month,
        span.first_day, span.last_day, span.last_complete_day
    having max(dates.date_day) >= span.first_day and min(dates.date_day) <= span.last_day
),

department_sales as (
    select
        months.month_number,
        sales.department,
        sum(sales.basket_lines) as basket_lines,
        sum(sales.sales_value) as sales_value,
        sum(sales.shop_discount) as shop_discount,
        max(sales._extracted_at) as _extracted_at,
        max(sales._loaded_batch_id) as _loaded_batch_id
    from sales
    inner join months on sales.sold_on between months.first_day and months.last_day
    group by months.month_number, sales.department
),

departments as (
    select distinct department from department_sales
),

-- A department that sold nothing in a month has a zero there: lag counts rows, and a row missing would shift the year.
filled as (
    select
        months.*,
        departments.department,
        coalesce(department_sales.basket_lines, 0)::integer as basket_lines,
        coalesce(department_sales.sales_value, 0) as sales_value,
        coalesce(department_sales.shop_discount, 0) as shop_discount,
        department_sales._extracted_at,
        department_sales._loaded_batch_id
    from months
    cross join departments
    left join department_sales
        on
            months.month_number = department_sales.month_number
            and departments.department = department_sales.department
),

weekly as (
    select
        *,
        sales_value / weeks as sales_per_week
    from filled
),

-- Months have four weeks or five, so what is compared is the week of each.
compared as (
    select
        *,
        sum(sales_value) over (partition by month_number) as all_sales,
        rank() over (partition by month_number order by sales_value desc)::integer as rank_in_month,
        sum(sales_value) over (
            partition by department, fiscal_year order by fiscal_month
        ) as sales_fiscal_year_to_date,
        lag(case when is_complete then sales_value end) over by_month as sales_month_before,
        lag(case when is_complete then sales_value end, 12) over by_month as sales_year_before,
        lag(case when is_complete then sales_per_week end) over by_month as per_week_month_before,
        lag(case when is_complete then sales_per_week end, 12) over by_month as per_week_year_before
    from weekly
    window by_month as (partition by department order by month_number)
),

contributing as (
    select
        *,
        sum(per_week_month_before) over (partition by month_number) as all_per_week_month_before
    from compared
)

select
    fiscal_year,
    fiscal_quarter,
    fiscal_month,
    department,
    first_day,
    last_day,
    weeks::integer as weeks,
    is_complete,
    basket_lines,
    sales_value::numeric(14, 2) as sales_value,
    shop_discount::numeric(14, 2) as shop_discount,
    sales_per_week::numeric(14, 2) as sales_per_week,
    rank_in_month,
    (sales_value / nullif(all_sales, 0))::numeric(22, 6) as share_of_month,
    sales_fiscal_year_to_date::numeric(16, 2) as sales_fiscal_year_to_date,
    sales_month_before::numeric(14, 2) as sales_month_before,
    case
        when is_complete then (sales_per_week - per_week_month_before) / nullif(per_week_month_before, 0)
    end::numeric(20, 4) as change_on_month_before,
    case
        when is_complete then (sales_per_week - per_week_month_before) / nullif(all_per_week_month_before, 0)
    end::numeric(22, 6) as contribution_to_change,
    sales_year_before::numeric(14, 2) as sales_year_before,
    case
        when is_complete then (sales_per_week - per_week_year_before) / nullif(per_week_year_before, 0)
    end::numeric(20, 4) as change_on_year_before,
    _extracted_at,
    _loaded_batch_id
from contributing
