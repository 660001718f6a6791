{{ config(materialized='view') }}

{%- for source_system in ['shop', 'marketing', 'currency'] %}
    select
        scored_at,
        entity,
        source_table,
        batch_rows,
        batch_rows_refused,
        batch_refusals,
        batch_score,
        table_rows,
        table_rows_refused,
        table_refusals,
        table_score,
        _extracted_at,
        _loaded_batch_id
    from {{ ref('quality_scores_' ~ source_system) }}
    {{ 'union all' if not loop.last }}
{%- endfor %}
