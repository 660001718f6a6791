{#
  A tree from rows that name their parent: every node with its depth (1 at the root), the path of names down to it, the
  path of ids, and the root it hangs on. To be written as the body of `with recursive`:

      with recursive tree as (
          {{ hierarchy('nodes', id='node_id', parent='parent_id', name='node_name') }}
      )

  Columns: id, parent, name, `depth`, `path` (`Grocery > Cheese > Cheddar`), `path_ids`, `root_id`. A node whose parent
  is missing stands at the root, so that nothing is lost. Nodes that form a ring have no root and are not in the tree:
  compare the counts where a source could hold one.
#}
{% macro hierarchy(nodes, id, parent, name, separator=' > ') -%}
    select
        node.{{ id }},
        node.{{ parent }},
        node.{{ name }},
        1 as depth,
        node.{{ name }}::text as path,
        array[node.{{ id }}] as path_ids,
        node.{{ id }} as root_id
    from {{ nodes }} as node
    where
        node.{{ parent }} is null
        or not exists (select 1 from {{ nodes }} as above where above.{{ id }} = node.{{ parent }})
    union all
    select
        node.{{ id }},
        node.{{ parent }},
        node.{{ name }},
        tree.depth + 1 as depth,
        tree.path || '{{ separator }}' || node.{{ name }} as path,
        tree.path_ids || node.{{ id }} as path_ids,
        tree.root_id
    from {{ nodes }} as node
    inner join tree on node.{{ parent }} = tree.{{ id }}
{%- endmacro %}
