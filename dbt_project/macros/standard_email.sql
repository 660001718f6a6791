{#
  The address as it is compared: no white space around, lower case. Mailboxes that differ in case alone exist on paper
  only.
#}
{% macro standard_email(email) -%}
    nullif(lower({{ trimmed(email) }}), '')
{%- endmacro %}


{#
  Whether a standard address can be delivered to, as far as its form tells: one `@`, a local part of at most 64 ASCII
  characters without spaces or doubled dots, a domain of at least two labels of at most 63 characters, which neither
  begin nor end with a hyphen. Domains may have letters of any script (`info@bücher.example`). At most 254 characters.
#}
{% macro email_is_wellformed(email) -%}
    {%- set letter = 'a-z\\u00a1-\\u167f\\u1681-\\u1fff\\u200c\\u200d\\u2070-\\u2fff\\u3001-\\ud7ff\\uf900-\\ufefe\\uff00-\\uffef\\U00010000-\\U0010ffff' -%}
    (
        length({{ email }}) <= 254
        and {{ email }} ~ '^(?=.{1,64}@)[a-z0-9!#$%&''*+/=?^_`{|}~-]+([.][a-z0-9!#$%&''*+/=?^_`{|}~-]+)*@([{{ letter }}0-9]([{{ letter }}0-9-]{0,61}[{{ letter }}0-9])?[.])+[{{ letter }}]([{{ letter }}0-9-]{0,61}[{{ letter }}0-9])$'
    )
{%- endmacro %}
