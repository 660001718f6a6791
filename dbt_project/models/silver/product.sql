{{ config(post_hook="{{ gather_statistics() }}") }}

-- From the snapshot, so that a product taken off the list stays known: it was sold once.
with versions as (
    select
        *,
        row_number() over (
            partition by product_id order by dbt_valid_to desc, dbt_valid_from desc
        ) as recency
    from {{ ref('products_snapshot') }}
),

departments as (
    select * from {{ ref('departments') }}
),

cleaned as (
    select
        versions.product_id,
        versions.manufacturer_id,
        coalesce(departments.department_name, {{ null_default('initcap(versions.department)') }}) as department,
        coalesce(departments.department_group, 'Unmapped') as department_group,
        {{ null_default('versions.brand') }} as brand,
        {{ null_default('versions.product_category') }} as product_category,
        {{ null_default('versions.product_type') }} as product_type,
        nullif({{ trimmed('versions.package_size') }}, '') as package_size,
        versions.dbt_is_deleted = 'True' as is_deleted,
        case when versions.dbt_is_deleted = 'True' then versions.dbt_valid_from end as deleted_at,
        versions.updated_at,
        versions._extracted_at,
        versions._batch_id as _loaded_batch_id
    from versions
    left join departments on upper({{ trimmed('versions.department') }}) = departments.department
    where versions.recency = 1
)

select
    *,
    {{ product_node_id('department', 'product_category', 'product_type') }} as product_node_id
from cleaned
