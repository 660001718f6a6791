{{ config(pre_hook=with_memory()) }}

with ranked as (
    select
        *,
        {{ newest_first('basket_line_id') }} as recency
    from {{ ref('stg_shop__basket_items') }}
),

baskets as (
    select
        basket_id,
        household_id,
        store_id
    from {{ ref('basket') }}
),

products as (
    select product_id from {{ ref('product') }}
),

-- Every household that ever was, since sales outlive it.
households as (
    select distinct household_id from {{ ref('households_snapshot') }}
),

stores as (
    select store_id from {{ ref('store') }}
),

judged as (
    select
        ranked.*,
        case
            when products.product_id is null then 'unknown_product'
            when baskets.basket_id is null then 'unknown_basket'
            when households.household_id is null then 'unknown_household'
            when stores.store_id is null then 'unknown_store'
        end as rule
    from ranked
    left join products on ranked.product_id = products.product_id
    left join baskets on ranked.basket_id = baskets.basket_id
    left join households on baskets.household_id = households.household_id
    left join stores on baskets.store_id = stores.store_id
    where ranked.recency = 1
)

select
    basket_line_id,
    rule,
    to_jsonb(judged) - array['recency', 'rule'] as row_data,
    _extracted_at,
    _batch_id as _loaded_batch_id
from judged
where rule is not null
