{#
  The address as it is compared: no spaces around, lower case. Mailboxes that differ in case alone exist on paper only.
#}
{% macro standard_email(email) -%}
    nullif(lower(btrim({{ email }}, E' \t\r\n')), '')
{%- endmacro %}


{#
  Whether a standard address can be delivered to, as far as its form tells: one `@`, a local part without spaces or
  doubled dots, a domain of at least two labels that neither begin nor end with a hyphen. At most 254 characters.
#}
{% macro email_is_wellformed(email) -%}
    (
        length({{ email }}) <= 254
        and {{ email }} ~ '^[a-z0-9!#$%&''*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&''*+/=?^_`{|}~-]+)*@([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]([a-z0-9-]*[a-z0-9])$'
    )
{%- endmacro %}
