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
    nullif({{ trimmed('versions.package_size') }}, '') as package_size,
    versions._extracted_at,
    versions._batch_id as _loaded_batch_id
from versions
left join departments on upper({{ trimmed('versions.department') }}) = departments.department
union all
-- What a sale points at whose product nobody knows.
select
    {{ unknown_version() }} as product_key,
    {{ unknown_member() }} as product_id,
    1 as version_number,
    {{ beginning_of_time() }} as effective_at,
    {{ end_of_time() }} as expires_at,
    true as is_current,
    false as is_deleted,
    null as manufacturer_id,
    'Unknown' as department,
    'Unmapped' as department_group,
    'Unknown' as brand,
    'Unknown' as product_category,
    'Unknown' as product_type,
    null as package_size,
    {{ beginning_of_time() }} as _extracted_at,
    0 as _loaded_batch_id
