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

  A day that is not in the calendar, such as 30 February, is null, and so are `today`, `infinity`, years before 1000, and
  a day that is followed by what is no time of a clock: `2017-12-31T25:61:00Z`.
#}
{% macro parse_date(value, formats=['iso']) -%}
    {%- set text = trimmed(value) -%}
    {%- set month = '(january|february|march|april|may|june|july|august|september|october|november|december|jan|feb|mar|apr|jun|jul|aug|sept|sep|oct|nov|dec)' -%}
    {%- set day = '([0-9]{1,2})' -%}
    {%- set year = '([1-9][0-9]{3})' -%}
    {%- set patterns = {
        'iso': [(
            '^' ~ year ~ '-([0-9]{2})-([0-9]{2})([T ](' ~ clock_time() ~ ')( ?(' ~ utc_offset() ~ '))?)?$',
            '\\1-\\2-\\3'
        )],
        'compact': [('^' ~ year ~ '([0-9]{2})([0-9]{2})$', '\\1-\\2-\\3')],
        'us': [('^' ~ day ~ '/' ~ day ~ '/' ~ year ~ '$', '\\3-\\1-\\2')],
        'eu': [('^' ~ day ~ '([./-])' ~ day ~ '\\2' ~ year ~ '$', '\\4-\\3-\\1')],
        'name': [
            ('^' ~ day ~ '(?:[.]? +|[.]|-)' ~ month ~ '(?:[.,]? +|[.]|-)' ~ year ~ '$', '\\3-\\2-\\1'),
            ('^' ~ month ~ '(?:[.]? +|[.]|-)' ~ day ~ '(?:, *| +|-)' ~ year ~ '$', '\\3-\\1-\\2'),
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
    {%- set text = trimmed(value) -%}
    {%- set day = '([1-9][0-9]{3}-[0-9]{2}-[0-9]{2}|[1-9][0-9]{7})' -%}
    {%- set mail = '((mon|tue|wed|thu|fri|sat|sun), )?([0-9]{1,2} (jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec) [1-9][0-9]{3} [0-9]{2}:[0-9]{2}(:[0-9]{2})? (GMT|UTC|[+-][0-9]{4}))' -%}
    {%- set american = '[0-9]{1,2}/[0-9]{1,2}/[1-9][0-9]{3},? ([0-9]{1,2}:[0-9]{2}(:[0-9]{2})?|(0?[1-9]|1[0-2]):[0-9]{2}(:[0-9]{2})? ?[ap]m)' -%}
    {%- set dotted -%}
        replace({{ text }}, ',', '.')
    {%- endset -%}
    {%- set ordered -%}
        regexp_replace({{ text }}, '^([0-9]{1,2})/([0-9]{1,2})/([0-9]{4}),?', '\3-\1-\2')
    {%- endset -%}
    {%- set unnamed -%}
        regexp_replace({{ text }}, '^(mon|tue|wed|thu|fri|sat|sun), ', '', 'i')
    {%- endset -%}
    case
        when {{ text }} ~* '^{{ day }}[T ]({{ clock_time() }}) ?({{ utc_offset() }})$'
            then case when pg_input_is_valid({{ dotted }}, 'timestamptz') then ({{ dotted }})::timestamptz end
        when {{ text }} ~* '^{{ day }}[T ]({{ clock_time() }})$'
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
        when {{ text }} ~ '^[0-9]{9,10}$' then to_timestamp(({{ text }})::double precision)
        when {{ text }} ~ '^[0-9]{12,13}$' then to_timestamp(({{ text }})::double precision / 1000)
    end
{%- endmacro %}


{#
  Patterns of a time of day (`23:59`, `235959`, `23:59:59.25`), and of what says how far it is from UTC.
#}
{% macro clock_time() -%}
    ([01][0-9]|2[0-3])(:[0-5][0-9](:[0-5][0-9]([.,][0-9]{1,9})?)?|[0-5][0-9]([0-5][0-9]([.,][0-9]{1,9})?)?)
{%- endmacro %}


{% macro utc_offset() -%}
    Z|UTC|GMT|[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?
{%- endmacro %}
