{{ config(store_failures=true) }}

-- Not a cent is lost on the way: what the shop sold is what silver holds and what was quarantined, and every table of
-- gold that adds sales up has the same sum.
with totals as (
    select
        (select sum(sales_value) from {{ ref('stg_shop__basket_items') }}) as staged,
        (select sum(sales_value) from {{ ref('basket_line') }}) as in_silver,
        (
            select coalesce(sum((row_data ->> 'sales_value')::numeric), 0)
            from {{ ref('quarantine_basket_line') }}
        ) as quarantined,
        (select sum(sales_value) from {{ ref('fct_basket_lines') }}) as in_lines,
        (select sum(sales_value) from {{ ref('fct_baskets') }}) as in_baskets,
        (select sum(sales_value) from {{ ref('agg_daily_sales') }}) as in_days,
        (select sum(sales_value) from {{ ref('agg_daily_department_sales') }}) as in_departments,
        (select sum(sales_value) from {{ ref('agg_weekly_sales') }}) as in_weeks,
        (select sum(sales_value) from {{ ref('agg_fiscal_month_sales') }}) as in_months
)

select *
from totals
where
    staged is distinct from in_silver + quarantined
    or in_lines is distinct from in_silver
    or in_baskets is distinct from in_silver
    or in_days is distinct from in_silver
    or in_departments is distinct from in_silver
    or in_weeks is distinct from in_silver
    or in_months is distinct from in_silver
