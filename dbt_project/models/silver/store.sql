-- From the snapshot, so that a closed store taken off the list stays known: its sales outlive it.
with versions as (
    select
        *,
        row_number() over (
            partition by store_id order by dbt_valid_to desc, dbt_valid_from desc
        ) as recency
    from {{ ref('stores_snapshot') }}
),

cleaned as (
    select
        store_id,
        coalesce(nullif(btrim(store_name), ''), 'Store ' || store_id) as store_name,
        first_sale_on,
        dbt_is_deleted = 'True' as is_deleted,
        case when dbt_is_deleted = 'True' then dbt_valid_from end as deleted_at,
        updated_at,
        _extracted_at,
        _batch_id as _loaded_batch_id
    from versions
    where recency = 1
)

select * from cleaned
