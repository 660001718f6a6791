{#
  Every rule of silver, in one place. A row that breaks one stands in a quarantine model with the rule's id.

  - `broken_when`: SQL over the columns that the entity's quarantine model judges
  - `action`: `leave out`, the row is not in silver; `withhold`, the row is, without the value
  - `max_share`: the share of the entity's rows that may break it before the build stops; `rule_floor` rows always may

  Where a row breaks several, rules that leave it out count in the order written. An id is never given to another rule.
  One run may be more patient: --vars '{rule_limits: {RD02: 0.05}}'.
#}
{% macro quality_rules(entity=none) %}
    {%- set rules = [
        {
            'id': 'BL01', 'entity': 'basket_line', 'name': 'unknown_product',
            'broken_when': 'products.product_id is null',
            'action': 'leave out', 'max_share': 0.01,
            'description': 'The product of the line was never on the list of the shop.',
        },
        {
            'id': 'BL02', 'entity': 'basket_line', 'name': 'unknown_basket',
            'broken_when': 'baskets.basket_id is null',
            'action': 'leave out', 'max_share': 0.01,
            'description': 'The basket of the line has not arrived, or was quarantined on load.',
        },
        {
            'id': 'BL03', 'entity': 'basket_line', 'name': 'unknown_household',
            'broken_when': 'households.household_id is null',
            'action': 'leave out', 'max_share': 0.01,
            'description': 'The household of the basket never existed.',
        },
        {
            'id': 'BL04', 'entity': 'basket_line', 'name': 'unknown_store',
            'broken_when': 'stores.store_id is null',
            'action': 'leave out', 'max_share': 0.01,
            'description': 'The store of the basket never existed.',
        },
        {
            'id': 'HH01', 'entity': 'household', 'name': 'malformed_email',
            'broken_when': 'not email_is_wellformed',
            'action': 'withhold', 'max_share': 0.01,
            'description': 'The e-mail address is invalid.',
        },
        {
            'id': 'HH02', 'entity': 'household', 'name': 'malformed_phone',
            'broken_when': 'not phone_is_number',
            'action': 'withhold', 'max_share': 0.02,
            'description': 'The telephone number is invalid.',
        },
        {
            'id': 'HH03', 'entity': 'household', 'name': 'unreadable_preference',
            'broken_when': 'not newsletter_is_boolean',
            'action': 'withhold', 'max_share': 0.01,
            'description': 'The newsletter preference is neither yes nor no; it then counts as no.',
        },
        {
            'id': 'HH04', 'entity': 'household', 'name': 'impossible_place',
            'broken_when': 'not place_is_possible',
            'action': 'withhold', 'max_share': 0.02,
            'description': 'The coordinates are out of range, incomplete, or both zero.',
        },
        {
            'id': 'RD01', 'entity': 'redemption', 'name': 'unreadable_value',
            'broken_when': 'ranked.unreadable is not null',
            'action': 'leave out', 'max_share': 0.005,
            'description': 'An id is not a number, or the day is not a date.',
        },
        {
            'id': 'RD02', 'entity': 'redemption', 'name': 'unknown_household',
            'broken_when': 'households.household_id is null',
            'action': 'leave out', 'max_share': 0.01,
            'description': 'The household of the redemption never existed.',
        },
        {
            'id': 'RD03', 'entity': 'redemption', 'name': 'unknown_campaign',
            'broken_when': 'campaigns.campaign_id is null',
            'action': 'leave out', 'max_share': 0.01,
            'description': 'The campaign of the coupon is not known.',
        },
        {
            'id': 'RD04', 'entity': 'redemption', 'name': 'unknown_coupon',
            'broken_when': 'coupons.coupon_id is null',
            'action': 'leave out', 'max_share': 0.01,
            'description': 'The coupon is not known.',
        },
        {
            'id': 'CA01', 'entity': 'campaign', 'name': 'unreadable_value',
            'broken_when': 'unreadable is not null',
            'action': 'withhold', 'max_share': 0.05,
            'description': 'The first or the last day is not a date.',
        },
        {
            'id': 'CT01', 'entity': 'campaign_target', 'name': 'unreadable_value',
            'broken_when': 'unreadable is not null',
            'action': 'leave out', 'max_share': 0.005,
            'description': 'The id of the campaign or of the household is not a number.',
        },
        {
            'id': 'CO01', 'entity': 'coupon', 'name': 'unreadable_value',
            'broken_when': 'unreadable is not null',
            'action': 'withhold', 'max_share': 0.005,
            'description': 'The id of the campaign or of a product, or the minimum spend, is not a number.',
        },
        {
            'id': 'ER01', 'entity': 'exchange_rate', 'name': 'unreadable_value',
            'broken_when': 'unreadable is not null',
            'action': 'leave out', 'max_share': 0.02,
            'description': 'The day is not a date, or the rate is not a number.',
        },
        {
            'id': 'ER02', 'entity': 'exchange_rate', 'name': 'rate_not_positive',
            'broken_when': 'rate <= 0',
            'action': 'leave out', 'max_share': 0.01,
            'description': 'The rate is zero or below.',
        },
    ] -%}
    {%- set chosen = [] -%}
    {%- for rule in rules if entity is none or rule.entity == entity -%}
        {%- set limit = var('rule_limits', {}).get(rule.id, rule.max_share) -%}
        {%- do chosen.append(dict(rule, max_share=limit)) -%}
    {%- endfor -%}
    {{ return(chosen) }}
{% endmacro %}


{#
  The id of the first rule that a row breaks, or null:

      {{ first_rule_broken('basket_line') }} as rule_id
#}
{% macro first_rule_broken(entity) -%}
    case
        {%- for rule in quality_rules(entity) %}
            when {{ rule.broken_when }} then '{{ rule.id }}'
        {%- endfor %}
    end
{%- endmacro %}


{#
  Whether a row breaks any rule, as a condition by which the planner finds the few that do.
#}
{% macro any_rule_broken(entity) -%}
    (
        {%- for rule in quality_rules(entity) %}
            {{ 'or ' if not loop.first }}{{ rule.broken_when }}
        {%- endfor %}
    )
{%- endmacro %}


{#
  What each rule says of a row, one row each, for a lateral join; `is_broken` is null where there is nothing to judge.

      cross join lateral {{ judgements('household') }}
      where judgements.is_broken
#}
{% macro judgements(entity) -%}
    (
        values
        {%- for rule in quality_rules(entity) %}
            ('{{ rule.id }}', '{{ rule.name }}', {{ rule.broken_when }}){{ ',' if not loop.last }}
        {%- endfor %}
    ) as judgements (rule_id, rule, is_broken)
{%- endmacro %}


{#
  The name of a rule, for reading: `unknown_product` for `BL01`.
#}
{% macro rule_name(rule_id, entity) -%}
    case {{ rule_id }}
        {%- for rule in quality_rules(entity) %}
            when '{{ rule.id }}' then '{{ rule.name }}'
        {%- endfor %}
    end
{%- endmacro %}
