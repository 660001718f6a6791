select
    judged.exchange_rate_id,
    judgements.rule_id,
    judgements.rule,
    to_jsonb(judged) as row_data,
    judged._extracted_at,
    judged._batch_id as _loaded_batch_id
from {{ ref('stg_currency__exchange_rates') }} as judged
cross join lateral {{ judgements('exchange_rate') }}
where judgements.is_broken
