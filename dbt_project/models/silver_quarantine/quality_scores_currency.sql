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
    'currency',
    entities=[
        ('exchange_rate', 'exchange_rates', 'stg_currency__exchange_rates'),
    ],
    quarantines=[
        ("'exchange_rate'", 'exchange_rate_id', 'quarantine_exchange_rate'),
    ]
) }}
