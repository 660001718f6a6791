-- What the catalogue says of tables ($1, oids) in our publication ($2). If a text differs, a table is planned again:
-- its columns, its identity in the log, its place in the publication, its file or its policies have changed.
select
    c.oid::bigint as id,
    md5(concat_ws(
        '|', n.nspname, c.relname, c.relkind, c.relreplident, c.relfilenode, c.relrowsecurity, c.relforcerowsecurity,
        o.oid, o.xmin, r.oid, r.xmin,
        (
            select string_agg(concat_ws(',', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attgenerated), ';' order by a.attnum)
            from pg_attribute as a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        ),
        (
            select string_agg(concat_ws(',', i.indexrelid, i.indisprimary, i.indisreplident), ';' order by i.indexrelid)
            from pg_index as i where i.indrelid = c.oid
        ),
        -- Partitions: those attached or detached since, and their files.
        (
            select string_agg(concat_ws(',', p.relid, b.relfilenode), ';' order by p.relid)
            from pg_partition_tree(c.oid) as p inner join pg_class as b on b.oid = p.relid where c.relkind = 'p'
        )
    )) as facts
from pg_class as c
inner join pg_namespace as n on c.relnamespace = n.oid
left join pg_publication as o on o.pubname = $2
left join pg_publication_rel as r on r.prpubid = o.oid and r.prrelid = c.oid
where c.oid = any($1::oid[]) and o.oid is not null
