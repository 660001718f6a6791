with ranked as (
    select
        *,
        {{ standard_email('email') }} as standard_email,
        {{ newest_first('household_id') }} as recency
    from {{ ref('stg_shop__households') }}
),

judged as (
    select
        *,
        case
            when not {{ email_is_wellformed('standard_email') }} then 'malformed_email'
        end as rule
    from ranked
    where recency = 1
)

select
    household_id,
    rule,
    to_jsonb(judged) - array['recency', 'rule', 'standard_email'] as row_data,
    _extracted_at,
    _batch_id as _loaded_batch_id
from judged
where rule is not null
