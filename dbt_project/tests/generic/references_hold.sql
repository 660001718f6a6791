{#
  Every value points at a row that exists; null points at nothing and passes. One scan of the model, however many
  columns: `relationships` reads it once a column.

      data_tests:
        - references_hold:
            arguments:
              references:
                - {column: store_id, to: ref('dim_store'), field: store_id}
#}
{% test references_hold(model, references) %}
    select
        {% for reference in references -%}
            count(*) filter (
                where referrer.{{ reference.column }} is not null and target_{{ loop.index }}.{{ reference.field }} is null
            ) as {{ reference.column }}_unknown{{ ',' if not loop.last }}
        {% endfor %}
    from {{ model }} as referrer
    {% for reference in references -%}
        left join {{ reference.to }} as target_{{ loop.index }}
            on referrer.{{ reference.column }} = target_{{ loop.index }}.{{ reference.field }}
    {% endfor %}
    having
        {% for reference in references -%}
            count(*) filter (
                where referrer.{{ reference.column }} is not null and target_{{ loop.index }}.{{ reference.field }} is null
            ) > 0 {{ 'or' if not loop.last }}
        {% endfor %}
{% endtest %}
