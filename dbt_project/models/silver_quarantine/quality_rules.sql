{{ config(materialized='view') }}

select
    rules.rule_id::text as rule_id,
    rules.entity::text as entity,
    rules.rule::text as rule,
    rules.action::text as action,
    rules.max_share::numeric as max_share,
    rules.description::text as description
from (
    values
    {%- for rule in quality_rules() %}
        (
            '{{ rule.id }}',
            '{{ rule.entity }}',
            '{{ rule.name }}',
            '{{ rule.action }}',
            {{ rule.max_share }},
            '{{ rule.description }}'
        ){{ ',' if not loop.last }}
    {%- endfor %}
) as rules (rule_id, entity, rule, action, max_share, description)
