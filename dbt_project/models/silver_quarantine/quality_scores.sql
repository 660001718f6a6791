{{ config(materialized='view') }}

select * from {{ ref('quality_scores_shop') }}
union all
select * from {{ ref('quality_scores_marketing') }}
union all
select * from {{ ref('quality_scores_currency') }}
