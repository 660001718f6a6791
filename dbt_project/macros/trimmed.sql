{#
  The text without white space around it: also the no-break, ideographic and zero-width spaces that spreadsheets, web
  pages and phones send, which PostgreSQL's `btrim` leaves where they are.
#}
{% macro trimmed(value) -%}
btrim({{ value }}, E' \t\n\x0b\f\r\u0085\u00a0\u1680\u180e\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff')
{%- endmacro %}
