{%- set fields = {
    'rate_on': ("payload ->> 'date'", parse_date("payload ->> 'date'")),
    'rate': ("payload ->> 'rate'", cast_or_null("payload ->> 'rate'", 'numeric')),
} %}
with source as (
    select * from {{ source('currency', 'exchange_rates') }}
),

renamed as (
    select
        id as exchange_rate_id,
        {{ fields.rate_on[1] }} as rate_on,
        upper(payload ->> 'base') as base_currency,
        upper(payload ->> 'quote') as currency,
        {{ fields.rate[1] }} as rate,
        {{ unreadable(fields) }} as unreadable,
        updated_at,
        _extracted_at,
        _batch_id
    from source
)

select * from renamed
