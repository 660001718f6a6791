{{
    config(
        indexes=[{'columns': ['basket_id'], 'unique': true}],
        pre_hook=with_memory('128MB'),
        post_hook="{{ gather_statistics() }}"
    )
}}

{%- set outliers = var('outliers')['basket_sales_value'] %}
with totals as (
    select
        basket_id,
        count(*)::integer as basket_lines,
        sum(sales_value) as sales_value,
        sum(retail_discount + coupon_match_discount) as shop_discount,
        sum(coupon_discount) as coupon_discount,
        max(_extracted_at) as _extracted_at,
        max(_loaded_batch_id) as _loaded_batch_id
    from {{ ref('basket_line') }}
    group by basket_id
),

bounds as (
    {{ outlier_bounds(
        'totals', 'sales_value', method=outliers.method, factor=outliers.factor, scale=outliers.scale
    ) }}
),

baskets as (
    select
        basket_id,
        household_id,
        store_id,
        sold_on
    from {{ ref('basket') }}
),

rates as (
    select
        rate_on,
        rate
    from {{ ref('exchange_rate') }}
    where currency = '{{ var("second_currency") }}'
)

select
    totals.basket_id,
    baskets.household_id,
    baskets.store_id,
    baskets.sold_on,
    totals.basket_lines,
    totals.sales_value::numeric(12, 2) as sales_value,
    totals.shop_discount::numeric(12, 2) as shop_discount,
    totals.coupon_discount::numeric(12, 2) as coupon_discount,
    {{ is_outlier('totals.sales_value', 'bounds.lower_bound', 'bounds.upper_bound') }} as is_outlier,
    ({{ clipped('totals.sales_value', 'bounds.lower_bound', 'bounds.upper_bound') }})::numeric(12, 2)
        as clipped_sales_value,
    '{{ var("second_currency") }}' as second_currency,
    (totals.sales_value * rates.rate)::numeric(12, 2) as second_sales_value,
    totals._extracted_at,
    totals._loaded_batch_id
from totals
cross join bounds
inner join baskets on totals.basket_id = baskets.basket_id
left join rates on baskets.sold_on = rates.rate_on
