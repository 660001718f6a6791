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
union all
-- What a sale points at whose store nobody knows.
select
    {{ unknown_member() }} as store_id,
    'Unknown' as store_name,
    null as first_sale_on,
    false as is_deleted,
    {{ beginning_of_time() }} as _extracted_at,
    0 as _loaded_batch_id
