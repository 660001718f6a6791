with baskets as (
    select * from {{ ref('fct_baskets') }}
),

sales as (
    select
        sold_on,
        sum(basket_lines)::integer as basket_lines,
        count(*)::integer as baskets,
        count(distinct household_id) filter (where household_id <> {{ unknown_member() }})::integer as households,
        sum(sales_value)::numeric(14, 2) as sales_value,
        sum(shelf_value - sales_value)::numeric(14, 2) as shop_discount,
        sum(coupon_discount)::numeric(14, 2) as coupon_discount,
        max(_extracted_at) as _extracted_at,
        max(_loaded_batch_id) as _loaded_batch_id
    from baskets
    group by sold_on
),

sales_as_of as (
    select last_complete_day from {{ ref('sales_as_of') }}
),

span as (
    select
        min(sold_on) as first_day,
        max(sold_on) as last_day
    from sales
),

-- Days without sales count as zero: a window of seven rows is a window of seven days only if no day is missing.
days as (
    select
        dates.date_day as sold_on,
        dates.day_of_week,
        dates.fiscal_year,
        dates.fiscal_week,
        coalesce(dates.date_day <= sales_as_of.last_complete_day, false) as is_complete,
        coalesce(sales.basket_lines, 0) as basket_lines,
        coalesce(sales.baskets, 0) as baskets,
        coalesce(sales.households, 0) as households,
        coalesce(sales.sales_value, 0) as sales_value,
        coalesce(sales.shop_discount, 0) as shop_discount,
        coalesce(sales.coupon_discount, 0) as coupon_discount,
        sales._extracted_at,
        sales._loaded_batch_id
    from {{ ref('dim_date') }} as dates
    inner join span on dates.date_day between span.first_day and span.last_day
    cross join sales_as_of
    left join sales on dates.date_day = sales.sold_on
),

compared as (
    select
        *,
        sum(sales_value) over (order by sold_on) as sales_to_date,
        sum(sales_value) over (partition by fiscal_year order by sold_on) as sales_fiscal_year_to_date,
        case
            when is_complete and count(*) over last_seven_days = 7 then avg(sales_value) over last_seven_days
        end as sales_7_day_average,
        case
            when is_complete and count(*) over last_28_days = 28 then avg(sales_value) over last_28_days
        end as sales_28_day_average,
        lag(sales_value, 7) over (order by sold_on) as sales_same_weekday_before,
        -- 52 weeks back: the same weekday, and but for the year after a 53rd week the same fiscal day.
        lag(sales_value, 364) over (order by sold_on) as sales_year_before
    from days
    window
        last_seven_days as (order by sold_on rows between 6 preceding and current row),
        last_28_days as (order by sold_on rows between 27 preceding and current row)
)

select
    sold_on,
    day_of_week,
    fiscal_year,
    fiscal_week,
    is_complete,
    basket_lines,
    baskets,
    households,
    sales_value::numeric(14, 2) as sales_value,
    shop_discount::numeric(14, 2) as shop_discount,
    coupon_discount::numeric(14, 2) as coupon_discount,
    sales_to_date::numeric(16, 2) as sales_to_date,
    sales_fiscal_year_to_date::numeric(16, 2) as sales_fiscal_year_to_date,
    sales_7_day_average::numeric(14, 2) as sales_7_day_average,
    sales_28_day_average::numeric(14, 2) as sales_28_day_average,
    sales_same_weekday_before::numeric(14, 2) as sales_same_weekday_before,
    case
        when is_complete then (sales_value - sales_same_weekday_before) / nullif(sales_same_weekday_before, 0)
    end::numeric(20, 4) as change_on_same_weekday,
    sales_year_before::numeric(14, 2) as sales_year_before,
    case
        when is_complete then (sales_value - sales_year_before) / nullif(sales_year_before, 0)
    end::numeric(20, 4) as change_on_year_before,
    _extracted_at,
    _loaded_batch_id
from compared
