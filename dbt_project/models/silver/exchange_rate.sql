{{ config(indexes=[{'columns': ['rate_on', 'currency'], 'unique': true}]) }}

-- depends_on: {{ ref('quality_scores_currency') }}
-- A rule broken too often stops the build before this.
with ranked as (
    select
        *,
        {{ newest_first('exchange_rate_id') }} as recency
    from {{ ref('stg_currency__exchange_rates') }}
    where base_currency = 'USD'
),

-- A rate that breaks a rule is as good as none: the day before then stands in.
refused as (
    select exchange_rate_id from {{ ref('quarantine_exchange_rate') }}
),

published as (
    select
        currency,
        rate_on,
        rate,
        _extracted_at,
        _batch_id,
        lead(rate_on) over (partition by currency order by rate_on) as next_rate_on
    from ranked
    where
        recency = 1
        and not exists (
            select 1 from refused
            where refused.exchange_rate_id = ranked.exchange_rate_id
        )
),

-- Nobody trades on Saturdays and Sundays. The last rate before holds until the next, and no longer than a week.
filled as (
    select
        days.day::date as rate_on,
        published.currency,
        published.rate,
        published.rate_on as published_on,
        published._extracted_at,
        published._batch_id as _loaded_batch_id
    from published
    cross join lateral generate_series(
        published.rate_on,
        least(coalesce(published.next_rate_on - 1, published.rate_on + 6), published.rate_on + 6),
        interval '1 day'
    ) as days (day)
)

select * from filled
