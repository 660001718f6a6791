{#
  A day written in one of several ways, or null where it is none of them. Nothing is guessed: `03/04/2017` is the fourth
  of March with `us` and the third of April with `eu`, whichever is named; naming both takes the first.

      {{ parse_date("payload ->> 'redeemed_on'", ['iso', 'us']) }} as redeemed_on

  | format | reads |
  | --- | --- |
  | iso | `2017-12-31`, `2017-12-31T23:15:00Z` (its day as written) |
  | compact | `20171231` |
  | us | `12/31/2017`, `1/5/2017` |
  | eu | `31.12.2017`, `31/12/2017`, `31-12-2017` |
  | name | `31 Dec 2017`, `31-December-2017`, `Dec 31, 2017` |

  A day that is not in the calendar, such as 30 February, is null, and so are `today`, `infinity` and years before 1000.
#}
{% macro parse_date(value, formats=['iso']) -%}
    {%- set text -%}
        btrim({{ value }}, E' \t\r\n')
    {%- endset -%}
    {%- set month = '(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*' -%}
    {%- set patterns = {
        'iso': [('^([1-9]\\d{3})-(\\d{2})-(\\d{2})([T ]\\d{2}:?\\d{2}.*)?$', '\\1-\\2-\\3')],
        'compact': [('^([1-9]\\d{3})(\\d{2})(\\d{2})$', '\\1-\\2-\\3')],
        'us': [('^(\\d{1,2})/(\\d{1,2})/([1-9]\\d{3})$', '\\3-\\1-\\2')],
        'eu': [('^(\\d{1,2})[./-](\\d{1,2})[./-]([1-9]\\d{3})$', '\\3-\\2-\\1')],
        'name': [
            ('^(\\d{1,2})[ .-]+' ~ month ~ '[ .,-]+([1-9]\\d{3})$', '\\3-\\2-\\1'),
            ('^' ~ month ~ '[ .-]+(\\d{1,2})[ .,-]+([1-9]\\d{3})$', '\\3-\\1-\\2'),
        ],
    } -%}
    case
        {%- for format in formats %}
            {%- for pattern, order in patterns[format] %}
                {%- set written -%}
                    regexp_replace({{ text }}, '{{ pattern }}', '{{ order }}', 'i')
                {%- endset %}
                when {{ text }} ~* '{{ pattern }}' and pg_input_is_valid({{ written }}, 'date')
                    then ({{ written }})::date
            {%- endfor %}
        {%- endfor %}
    end
{%- endmacro %}


{#
  A moment written in one of several ways, as timestamptz, or null where it is none of them. What names no zone is taken
  for a clock in `zone`.

      {{ parse_timestamp("payload ->> 'seen_at'", zone='America/New_York') }} as seen_at

  Reads `2017-12-31T10:00:00Z`, `2017-12-31 10:00:00.25+01:00`, `2017-12-31 10:00` (in `zone`), `20171231T100000Z`,
  `12/31/2017 5:00 PM` (month first, in `zone`), `Sun, 31 Dec 2017 10:00:00 +0000` (e-mail and HTTP), and Unix time in
  seconds (9 or 10 digits) or milliseconds (12 or 13). A clock time that the change to summer time leaves out is read an
  hour later, as PostgreSQL does.
#}
{% macro parse_timestamp(value, zone='UTC') -%}
    {%- set text -%}
        btrim({{ value }}, E' \t\r\n')
    {%- endset -%}
    {%- set day = '[1-9]\\d{3}-?\\d{2}-?\\d{2}' -%}
    {%- set clock = '\\d{2}:?\\d{2}(:?\\d{2}([.,]\\d{1,9})?)?' -%}
    {%- set mail = '((mon|tue|wed|thu|fri|sat|sun), )?(\\d{1,2} (jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec) [1-9]\\d{3} \\d{2}:\\d{2}(:\\d{2})? (GMT|UTC|[+-]\\d{4}))' -%}
    {%- set american = '\\d{1,2}/\\d{1,2}/[1-9]\\d{3},? \\d{1,2}:\\d{2}(:\\d{2})?( ?[ap]m)?' -%}
    {%- set dotted -%}
        replace({{ text }}, ',', '.')
    {%- endset -%}
    {%- set ordered -%}
        regexp_replace({{ text }}, '^(\d{1,2})/(\d{1,2})/(\d{4}),?', '\3-\1-\2')
    {%- endset -%}
    {%- set unnamed -%}
        regexp_replace({{ text }}, '^(mon|tue|wed|thu|fri|sat|sun), ', '', 'i')
    {%- endset -%}
    case
        when {{ text }} ~* '^{{ day }}[T ]{{ clock }} ?(Z|UTC|GMT|[+-]\d{2}(:?\d{2})?)$'
            then case when pg_input_is_valid({{ dotted }}, 'timestamptz') then ({{ dotted }})::timestamptz end
        when {{ text }} ~* '^{{ day }}[T ]{{ clock }}$'
            then
                case
                    when pg_input_is_valid({{ dotted }}, 'timestamp')
                        then ({{ dotted }})::timestamp at time zone '{{ zone }}'
                end
        when {{ text }} ~* '^{{ american }}$'
            then
                case
                    when pg_input_is_valid({{ ordered }}, 'timestamp')
                        then ({{ ordered }})::timestamp at time zone '{{ zone }}'
                end
        when {{ text }} ~* '^{{ mail }}$'
            then case when pg_input_is_valid({{ unnamed }}, 'timestamptz') then ({{ unnamed }})::timestamptz end
        when {{ text }} ~ '^\d{9,10}$' then to_timestamp(({{ text }})::double precision)
        when {{ text }} ~ '^\d{12,13}$' then to_timestamp(({{ text }})::double precision / 1000)
    end
{%- endmacro %}
