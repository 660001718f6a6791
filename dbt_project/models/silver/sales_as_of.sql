{{ config(indexes=[{'columns': ['last_sale_at'], 'unique': true}]) }}

-- A day is complete once a sale is known that was made after the day had ended in every store's time zone. A moment
-- after the row was read is a wrong clock, and proves nothing.
with baskets as (
    select
        time_zone,
        max(sold_at) filter (where sold_at <= _extracted_at) as last_sale_at,
        max(_extracted_at) as _extracted_at,
        max(_loaded_batch_id) as _loaded_batch_id
    from {{ ref('basket') }}
    group by time_zone
),

last_sale as (
    select max(last_sale_at) as last_sale_at from baskets
)

select
    last_sale.last_sale_at,
    min((last_sale.last_sale_at at time zone baskets.time_zone)::date) - 1 as last_complete_day,
    max(baskets._extracted_at) as _extracted_at,
    max(baskets._loaded_batch_id) as _loaded_batch_id
from last_sale
left join baskets on true
group by last_sale.last_sale_at
