{#
  A telephone number as E.164 (`+15135550123`), or null when it is none.

  Reads what people type: `(513) 555-0123`, `513.555.0123`, `1-513-555-0123 ext. 4`, `+44 20 7946 0018`, `0044 …`.
  An extension is dropped: E.164 has none. Numbers without `+` or `00` are North American, where area and exchange
  codes begin with 2 to 9; others count when they have the 8 to 15 digits that the standard allows.
#}
{% macro e164(phone) -%}
    {%- set number -%}
        regexp_replace({{ phone }}, '\s*(ext(ension)?\.?|x|#)\s*\d+\s*$', '', 'i')
    {%- endset -%}
    {%- set digits -%}
        regexp_replace({{ number }}, '\D', '', 'g')
    {%- endset -%}
    case
        when {{ number }} ~ '[[:alpha:]]' then null
        when {{ number }} ~ '^\s*(\+\s*|00)1\D*' or {{ number }} !~ '^\s*(\+|00)'
            then '+1' || substring({{ digits }} from '^0{0,2}1?([2-9]\d{2}[2-9]\d{6})$')
        else '+' || substring({{ digits }} from '^(?:00)?([1-9]\d{7,14})$')
    end
{%- endmacro %}
