-- From the snapshot, so that a closed store taken off the list stays known: its sales outlive it.
with versions as (
    select
        *,
        row_number() over (
            partition by store_id order by dbt_valid_to desc, dbt_valid_from desc
        ) as recency
    from {{ ref('stores_snapshot') }}
),

regions as (
    select * from {{ ref('regions') }}
),

-- A code that is missing, or missing in the seed, is the unknown member's.
located as (
    select
        versions.*,
        coalesce(known.region, 'ZZ') as known_region
    from versions
    left join regions as known on upper({{ trimmed('versions.region') }}) = known.region
    where versions.recency = 1
),

cleaned as (
    select
        located.store_id,
        coalesce(nullif({{ trimmed('located.store_name') }}, ''), 'Store ' || located.store_id) as store_name,
        located.first_sale_on,
        regions.region,
        regions.region_name,
        regions.census_region,
        regions.time_zone,
        located.latitude,
        located.longitude,
        located.dbt_is_deleted = 'True' as is_deleted,
        case when located.dbt_is_deleted = 'True' then located.dbt_valid_from end as deleted_at,
        located.updated_at,
        located._extracted_at,
        located._batch_id as _loaded_batch_id
    from located
    inner join regions on located.known_region = regions.region
)

select * from cleaned
