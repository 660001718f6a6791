{#
  The key of a node of the product hierarchy, from the names down to it: a department, a category or a type.
#}
{% macro product_node_id(department, category=none, type=none) -%}
    md5(concat_ws('/', {{ department }}{{ ', ' ~ category if category }}{{ ', ' ~ type if type }}))::uuid
{%- endmacro %}
