{{ config(indexes=[{'columns': ['product_node_id'], 'unique': true}]) }}

with recursive products as (
    select
        department,
        product_category,
        product_type,
        count(*) as products,
        max(_extracted_at) as _extracted_at,
        max(_loaded_batch_id) as _loaded_batch_id
    from {{ ref('product') }}
    group by department, product_category, product_type
),

-- Two categories may have a type of one name, so a node is known by all names down to it.
nodes as (
    select distinct
        {{ product_node_id('department') }} as product_node_id,
        null::uuid as parent_node_id,
        department as node_name
    from products
    union all
    select distinct
        {{ product_node_id('department', 'product_category') }},
        {{ product_node_id('department') }},
        product_category
    from products
    union all
    select
        {{ product_node_id('department', 'product_category', 'product_type') }},
        {{ product_node_id('department', 'product_category') }},
        product_type
    from products
),

tree as (
    {{ hierarchy('nodes', id='product_node_id', parent='parent_node_id', name='node_name') }}
),

-- Each type's products, counted at every node above it.
counted as (
    select
        above.product_node_id,
        sum(products.products)::integer as products,
        max(products._extracted_at) as _extracted_at,
        max(products._loaded_batch_id) as _loaded_batch_id
    from products
    inner join tree
        on
            {{ product_node_id('products.department', 'products.product_category', 'products.product_type') }}
            = tree.product_node_id
    cross join lateral unnest(tree.path_ids) as above (product_node_id)
    group by above.product_node_id
)

select
    tree.product_node_id,
    tree.parent_node_id,
    tree.node_name,
    tree.depth,
    (array['department', 'category', 'type'])[tree.depth] as level_name,
    tree.path,
    tree.root_id as department_node_id,
    counted.products,
    counted._extracted_at,
    counted._loaded_batch_id
from tree
inner join counted on tree.product_node_id = counted.product_node_id
