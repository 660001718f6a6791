with stores as (
    select * from {{ ref('store') }}
)

select
    store_id,
    store_name,
    first_sale_on,
    is_deleted,
    _extracted_at,
    _loaded_batch_id
from stores
union all
-- What a sale points at whose store nobody knows.
select
    {{ unknown_member() }},
    'Unknown',
    null,
    false,
    {{ beginning_of_time() }},
    0
