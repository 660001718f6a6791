{{ config(pre_hook=with_memory()) }}

with basket_lines as (
    select * from {{ ref('fct_basket_lines') }}
),

products as (
    select
        product_key,
        department
    from {{ ref('dim_product') }}
),

-- Products first: a day sells 2,000 of them, and looking up the department of each line costs twice as much.
product_sales as (
    select
        sold_on,
        product_key,
        count(*) as basket_lines,
        sum(sales_value) as sales_value,
        sum(shelf_value) as shelf_value,
        max(_extracted_at) as _extracted_at,
        max(_loaded_batch_id) as _loaded_batch_id
    from basket_lines
    group by sold_on, product_key
)

select
    product_sales.sold_on,
    products.department,
    sum(product_sales.basket_lines)::integer as basket_lines,
    sum(product_sales.sales_value)::numeric(14, 2) as sales_value,
    sum(product_sales.shelf_value - product_sales.sales_value)::numeric(14, 2) as shop_discount,
    max(product_sales._extracted_at) as _extracted_at,
    max(product_sales._loaded_batch_id) as _loaded_batch_id
from product_sales
inner join products on product_sales.product_key = products.product_key
group by product_sales.sold_on, products.department
