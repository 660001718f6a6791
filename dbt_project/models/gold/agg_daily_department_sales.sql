{{ config(pre_hook=with_memory('128MB')) }}

with basket_lines as (
    select * from {{ ref('fct_basket_lines') }}
),

-- The version that was sold tells the department it was in then.
products as (
    select
        product_key,
        department
    from {{ ref('dim_product') }}
),

sales_as_of as (
    select last_complete_day from {{ ref('sales_as_of') }}
)

select
    basket_lines.sold_on,
    products.department,
    coalesce(basket_lines.sold_on <= sales_as_of.last_complete_day, false) as is_complete,
    count(*)::integer as basket_lines,
    sum(basket_lines.sales_value)::numeric(14, 2) as sales_value,
    sum(basket_lines.shelf_value - basket_lines.sales_value)::numeric(14, 2) as shop_discount,
    max(basket_lines._extracted_at) as _extracted_at,
    max(basket_lines._loaded_batch_id) as _loaded_batch_id
from basket_lines
inner join products on basket_lines.product_key = products.product_key
cross join sales_as_of
group by basket_lines.sold_on, products.department, sales_as_of.last_complete_day
