{#
  The distance between two points of the globe along its surface, in kilometres, by the haversine formula on a sphere of
  the Earth's mean radius, 6,371.0088 km (IUGG). It is at most 0.6 % off what an ellipsoid gives. Degrees in decimals, south
  and west negative; null where a coordinate is.

      {{ distance_km('household.latitude', 'household.longitude', 'store.latitude', 'store.longitude') }}
#}
{% macro distance_km(latitude, longitude, other_latitude, other_longitude) -%}
    case when num_nulls({{ latitude }}, {{ longitude }}, {{ other_latitude }}, {{ other_longitude }}) = 0 then
        2 * 6371.0088 * asin(
            -- Rounding may pass 1 between opposite points. `least` ignores nulls, hence the question above.
            least(
                1,
                sqrt(
                    power(sin(radians(({{ other_latitude }} - {{ latitude }})::double precision) / 2), 2)
                    + cos(radians(({{ latitude }})::double precision))
                    * cos(radians(({{ other_latitude }})::double precision))
                    * power(sin(radians(({{ other_longitude }} - {{ longitude }})::double precision) / 2), 2)
                )
            )
        )
    end
{%- endmacro %}


{#
  A point of the globe as a vector of length one: columns `x`, `y` and `z`.
#}
{% macro unit_vector(latitude, longitude) -%}
    cos(radians({{ latitude }}::double precision)) * cos(radians({{ longitude }}::double precision)) as x,
    cos(radians({{ latitude }}::double precision)) * sin(radians({{ longitude }}::double precision)) as y,
    sin(radians({{ latitude }}::double precision)) as z
{%- endmacro %}
