with households as (
    select
        household_id,
        latitude,
        longitude,
        _extracted_at,
        _loaded_batch_id
    from {{ ref('household') }}
    where latitude is not null
),

stores as (
    select
        store_id,
        region,
        latitude,
        longitude
    from {{ ref('store') }}
    where
        latitude is not null
        and not is_deleted
),

near as (
    select distinct on (households.household_id)
        households.household_id,
        stores.store_id,
        stores.region,
        {{ distance_km('households.latitude', 'households.longitude', 'stores.latitude', 'stores.longitude') }} as distance
    from households
    inner join stores on true
    order by households.household_id asc, distance asc, stores.store_id asc
)

select
    households.household_id,
    near.store_id as nearest_store_id,
    near.region,
    near.distance::numeric(8, 3) as nearest_store_km,
    households._extracted_at,
    households._loaded_batch_id
from households
inner join near on households.household_id = near.household_id
