with stores as (
    select * from {{ ref('store') }}
)

select
    store_id,
    store_name,
    first_sale_on,
    _extracted_at,
    _loaded_batch_id,
    is_deleted as is_closed
from stores
