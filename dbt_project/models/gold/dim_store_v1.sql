select
    store_id,
    store_name,
    first_sale_on,
    is_closed as is_deleted,
    _extracted_at,
    _loaded_batch_id
from {{ ref('dim_store', v=2) }}
