{#
  A telephone number as E.164 (`+15135550123`), or null when it is none.

      {{ e164('phone') }}                     -- typed in the United States
      {{ e164('phone', region='GB') }}        -- typed in Britain: `020 7946 0018`

  Reads what people type: `(513) 555-0123`, `1-513-555-0123 ext. 4`, `+44 (0)20 7946 0018`, `0044 …`, `tel:+49-30-…`. An
  extension is dropped: E.164 has none. Numbers without `+`, `00` or the country's own way out are those of `region`.
  Countries that `phone_regions` does not list count when they have the 8 to 15 digits that the standard allows.

  What is written as a decimal number (`5135550123.0`, as spreadsheets export numbers), a day (`2024-02-29`) or an
  internet address (`192.168.1.1`) is null, however many digits it has.
#}
{% macro e164(phone, region='US') -%}
    {%- set home = phone_regions()[region] -%}
    {%- set number -%}
        regexp_replace(
            regexp_replace({{ trimmed(phone) }}, '^tel:', '', 'i'), '\s*([;,]?\s*ext(ension|n)?[.:=]?|x|#)\s*\d{1,7}\s*$', '', 'i'
        )
    {%- endset -%}
    {%- set digits -%}
        regexp_replace({{ number }}, '\D', '', 'g')
    {%- endset -%}
    {%- set abroad -%}
        case when {{ number }} ~ '^[\s(]*\+' then {{ digits }} else substring({{ digits }} from '^(?:00|{{ home.idd }})(.*)$') end
    {%- endset -%}
    {%- set octet = '(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])' -%}
    {%- set day_or_month = '(0?[1-9]|[12][0-9]|3[01])' -%}
    {%- set no_number = [
        '[+-]?[0-9]+[.]([0-9]{1,2}|0+)', '[+-]?(0|[1-9][0-9]?)[.][0-9]+',
        '(19|20)[0-9]{2}[-./]' ~ day_or_month ~ '[-./]' ~ day_or_month,
        day_or_month ~ '[-./]' ~ day_or_month ~ '[-./](19|20)[0-9]{2}',
        '(?!([0-9]{2}[.]){3}[0-9]{2}$)' ~ octet ~ '([.]' ~ octet ~ '){3}',
    ] -%}
    case
        when {{ number }} ~ '^({{ no_number | join('|') }})$' then null
        when {{ number }} !~ '^[\s(]*\+?[\d\s()./‐‑‒–—―-]*$' then null
        when {{ number }} ~ '^[\s(]*\+' or {{ digits }} ~ '^(00|{{ home.idd }})'
            then
                case
                    {%- set seen = [] %}
                    {%- for other in phone_regions().values() if other.code not in seen %}
                        {%- do seen.append(other.code) %}
                        when {{ abroad }} ~ '^{{ other.code }}'
                            then
                                '+{{ other.code }}'
                                || substring({{ abroad }} from '^{{ other.code }}(?:{{ other.trunk }})?({{ other.national }})$')
                    {%- endfor %}
                    else '+' || substring({{ abroad }} from '^([2-9]\d{7,14})$')
                end
        else '+{{ home.code }}' || substring({{ digits }} from '^(?:{{ home.trunk }})?({{ home.national }})$')
    end
{%- endmacro %}
