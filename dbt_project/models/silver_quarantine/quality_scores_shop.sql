{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        on_schema_change='append_new_columns',
        full_refresh=false,
        meta={'reads_clock': 'stamp'}
    )
}}

{{ score_batches(
    'shop',
    entities=[
        ('basket_line', 'basket_items', 'stg_shop__basket_items'),
        ('basket', 'baskets', 'stg_shop__baskets'),
        ('household', 'households', 'stg_shop__households'),
        ('product', 'products', 'stg_shop__products'),
        ('store', 'stores', 'stg_shop__stores'),
    ],
    quarantines=[
        ("'basket_line'", 'basket_line_id', 'quarantine_basket_line'),
        ("'household'", 'household_id', 'quarantine_household'),
    ]
) }}
