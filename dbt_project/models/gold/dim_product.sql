{{ config(post_hook="{{ gather_statistics() }}") }}

with versions as (
    select
        *,
        dbt_valid_to = {{ end_of_time() }} as is_open
    from {{ ref('products_snapshot') }}
),

-- The running maximum keeps intervals in order even when the warehouse's clock stepped back between two versions.
dated as (
    select
        *,
        row_number() over by_age as version_number,
        max(dbt_valid_from) over by_age as begins_at
    from versions
    window by_age as (partition by product_id order by is_open, dbt_valid_from)
),

chained as (
    select
        *,
        case when version_number = 1 then {{ beginning_of_time() }} else begins_at end as effective_at,
        coalesce(
            lead(begins_at) over (partition by product_id order by version_number), {{ end_of_time() }}
        ) as expires_at
    from dated
),

departments as (
    select * from {{ ref('departments') }}
)

select
    {{ version_key('chained.product_id', 'chained.version_number') }} as product_key,
    chained.product_id,
    chained.version_number::integer as version_number,
    chained.effective_at,
    chained.expires_at,
    chained.expires_at = {{ end_of_time() }} as is_current,
    chained.dbt_is_deleted = 'True' as is_deleted,
    chained.manufacturer_id,
    coalesce(departments.department_name, initcap(chained.department), 'Unknown') as department,
    coalesce(departments.department_group, 'Unmapped') as department_group,
    coalesce(chained.brand, 'Unknown') as brand,
    coalesce(chained.product_category, 'Unknown') as product_category,
    coalesce(chained.product_type, 'Unknown') as product_type,
    nullif(btrim(chained.package_size), '') as package_size,
    chained._extracted_at,
    chained._batch_id as _loaded_batch_id
from chained
left join departments on upper(btrim(chained.department)) = departments.department
