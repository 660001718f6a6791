{{ config(indexes=[{'columns': ['household_id', 'model'], 'unique': true}]) }}

with published as (
    select
        model,
        max(version) as version
    from {{ source('ml', 'model_versions') }}
    where status = 'published'
    group by model
),

versions as (
    select
        model,
        version,
        trained_at,
        (metrics ->> 'auc')::numeric(6, 4) as holdout_auc
    from {{ source('ml', 'model_versions') }}
),

scores as (
    select * from {{ source('ml', 'customer_scores') }}
)

select
    scores.household_id,
    scores.model,
    scores.version as model_version,
    scores.score::numeric(9, 8) as score,
    scores.decile,
    scores.as_of,
    versions.trained_at,
    versions.holdout_auc
from published
inner join versions on published.model = versions.model and published.version = versions.version
inner join scores on published.model = scores.model and published.version = scores.version
