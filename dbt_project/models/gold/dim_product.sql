{{ config(post_hook="{{ gather_statistics() }}") }}

with versions as (
    {{ version_intervals(ref('products_snapshot'), 'product_id') }}
),

departments as (
    select * from {{ ref('departments') }}
)

select
    {{ version_key('versions.product_id', 'versions.version_number') }} as product_key,
    versions.product_id,
    versions.version_number::integer as version_number,
    versions.effective_at,
    versions.expires_at,
    versions.expires_at = {{ end_of_time() }} as is_current,
    versions.dbt_is_deleted = 'True' as is_deleted,
    versions.manufacturer_id,
    coalesce(departments.department_name, initcap(versions.department), 'Unknown') as department,
    coalesce(departments.department_group, 'Unmapped') as department_group,
    coalesce(versions.brand, 'Unknown') as brand,
    coalesce(versions.product_category, 'Unknown') as product_category,
    coalesce(versions.product_type, 'Unknown') as product_type,
    nullif(btrim(versions.package_size), '') as package_size,
    versions._extracted_at,
    versions._batch_id as _loaded_batch_id
from versions
left join departments on upper(btrim(versions.department)) = departments.department
union all
-- What a sale points at whose product nobody knows.
select
    {{ unknown_version() }},
    {{ unknown_member() }},
    1,
    {{ beginning_of_time() }},
    {{ end_of_time() }},
    true,
    false,
    null,
    'Unknown',
    'Unmapped',
    'Unknown',
    'Unknown',
    'Unknown',
    null,
    {{ beginning_of_time() }},
    0
