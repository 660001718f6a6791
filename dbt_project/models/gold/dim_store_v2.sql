with stores as (
    select * from {{ ref('store') }}
)

select
    store_id,
    store_name,
    first_sale_on,
    is_deleted as is_closed,
    _extracted_at,
    _loaded_batch_id
from stores
