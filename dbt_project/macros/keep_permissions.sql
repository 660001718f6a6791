{#
  A statement that gives the relation `new` what `old` has: owner, grants with their options, grants on columns, row-level
  policies, security options of views, and labels; and its comments, where `new` has none. It revokes what `old` does not
  have. `named` is the name that both are to have, because a policy's expression may say it. Partitions get what those of
  the same name have; new ones, as `new` is if `old` is missing and it is a `partition_of` another, the grants of their
  table, and nobody reads past its policies through them.

  Otherwise nothing happens if either is missing. If something cannot be kept, it fails and says what.
  flows/models/permissions.py renders it too, for releases, so it uses no function of dbt.
#}
{% macro keep_permissions(old, new, named, partition_of='') -%}
    do $keep$
    declare
        has_twin constant boolean := to_regclass('{{ old }}') is not null;
        old_root constant oid := coalesce(to_regclass('{{ old }}'), to_regclass(nullif('{{ partition_of }}', '')));
        new_root constant oid := to_regclass('{{ new }}');
        named constant text := '{{ named }}';
        former_path constant text := current_setting('search_path');
        old_name constant text := (select relname from pg_catalog.pg_class where oid = old_root);
        new_name constant text := (select relname from pg_catalog.pg_class where oid = new_root);
        new_schema constant text := (
            select n.nspname from pg_catalog.pg_class as c
            inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
            where c.oid = new_root
        );
        full_name constant text := (
            select format('%I.%I', n.nspname, named) from pg_catalog.pg_class as c
            inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
            where c.oid = old_root
        );
        pair record;
        entry record;
        made text[];
        statement text;
    begin
        if old_root is null or new_root is null then
            return;
        end if;
        perform set_config('search_path', 'pg_catalog', true);

        select format('the policy %I of %s reads it', p.polname, p.polrelid::regclass)
        into statement
        from pg_depend as d
        inner join pg_policy as p on d.classid = 'pg_policy'::regclass and d.objid = p.oid
        where d.refclassid = 'pg_class'::regclass and d.refobjid = old_root and p.polrelid <> old_root and has_twin
        limit 1;
        if found then
            raise exception using errcode = '2BP01', message = statement;
        end if;

        for pair in
            select
                o.oid as old_id, n.oid as new_id, o.relowner as old_owner, n.relowner as new_owner,
                coalesce(o.relacl, acldefault('r', o.relowner)) as old_acl,
                coalesce(n.relacl, acldefault('r', n.relowner)) as new_acl,
                o.relrowsecurity as is_secured, o.relforcerowsecurity as is_forced,
                n.relrowsecurity as was_secured, n.relforcerowsecurity as was_forced,
                t.old_id is not null as is_twin, n.relkind as kind, o.relkind as old_kind,
                case n.relkind when 'v' then 'view' when 'm' then 'materialized view' else 'table' end as kind_name
            from (
                select case when has_twin then old_root end as old_id, new_root as new_id
                union all
                select o.oid, n.oid
                from pg_partition_tree(new_root) as part
                inner join pg_class as n on part.relid = n.oid and n.oid <> new_root
                left join (
                    pg_partition_tree(old_root) as held inner join pg_class as o on held.relid = o.oid
                ) on o.oid <> old_root and substr(o.relname, length(named) + 1) = substr(n.relname, length(new_name) + 1)
            ) as t
            inner join pg_class as o on coalesce(t.old_id, old_root) = o.oid
            inner join pg_class as n on t.new_id = n.oid
        loop
            if pair.old_owner <> pair.new_owner then
                execute format(
                    'alter %s %s owner to %I', pair.kind_name, pair.new_id::regclass, pg_get_userbyid(pair.old_owner)
                );
                select coalesce(relacl, acldefault('r', relowner)) into pair.new_acl
                from pg_class where oid = pair.new_id;
            end if;

            -- Revokes come first: `grant option for` alone is revoked where the privilege stays.
            for entry in
                with held as (
                    select
                        true as is_old, '' as column_name, grantee, privilege_type, bool_or(is_grantable) as may_grant
                    from aclexplode(pair.old_acl) group by grantee, privilege_type
                    union all
                    select false, '', grantee, privilege_type, bool_or(is_grantable)
                    from aclexplode(pair.new_acl) group by grantee, privilege_type
                    union all
                    select
                        a.attrelid = pair.old_id, a.attname, e.grantee, e.privilege_type, bool_or(e.is_grantable)
                    from pg_attribute as a cross join lateral aclexplode(a.attacl) as e
                    where
                        a.attrelid in (pair.old_id, pair.new_id) and not a.attisdropped
                        and exists (
                            select from pg_attribute as twin
                            where twin.attrelid = pair.new_id and twin.attname = a.attname and not twin.attisdropped
                        )
                    group by a.attrelid, a.attname, e.grantee, e.privilege_type
                ),
                both_ends as (
                    select
                        column_name, privilege_type,
                        case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as grantee,
                        max(case when is_old then 1 + may_grant::int else 0 end) as wanted,
                        max(case when is_old then 0 else 1 + may_grant::int end) as there
                    from held group by column_name, privilege_type, grantee
                )
                select
                    format(
                        case when wanted < there
                            then 'revoke %s%s%s on %s from %s cascade' else 'grant %2$s%3$s on %4$s to %5$s%6$s'
                        end,
                        case when wanted = 1 and there = 2 then 'grant option for ' end, privilege_type,
                        case when column_name <> '' then format(' (%I)', column_name) end,
                        pair.new_id::regclass, grantee, case when wanted = 2 then ' with grant option' end
                    ) as text
                from both_ends where wanted <> there order by wanted < there desc
            loop
                execute entry.text;
            end loop;

            if pair.is_secured and pair.kind not in ('r', 'p') then
                raise exception using errcode = '42809', message = format(
                    'there is no row-level security for a %s', pair.kind_name
                );
            end if;
            if pair.is_secured <> pair.was_secured and pair.kind in ('r', 'p') then
                execute format(
                    'alter table %s %s row level security', pair.new_id::regclass,
                    case when pair.is_secured then 'enable' else 'disable' end
                );
            end if;
            if pair.is_forced <> pair.was_forced and pair.kind in ('r', 'p') then
                execute format(
                    'alter table %s %s row level security', pair.new_id::regclass,
                    case when pair.is_forced then 'force' else 'no force' end
                );
            end if;

            if pair.kind = 'v' and pair.old_kind = 'v' then
                for entry in
                    select
                        coalesce(o.option_name, n.option_name) as name, o.option_value as value
                    from (select (pg_options_to_table(reloptions)).* from pg_class where oid = pair.old_id) as o
                    full join (select (pg_options_to_table(reloptions)).* from pg_class where oid = pair.new_id) as n
                        using (option_name)
                    where
                        coalesce(o.option_name, n.option_name) in ('security_barrier', 'security_invoker')
                        and o.option_value is distinct from n.option_value
                loop
                    execute format(
                        case
                            when entry.value is null then 'alter view %s reset (%I)' else 'alter view %s set (%I = %s)'
                        end,
                        pair.new_id::regclass, entry.name, entry.value
                    );
                end loop;
            end if;

            if pair.is_twin then
                for entry in
                    select format('security label for %I on %s%s is %L', l.provider,
                        case l.objsubid when 0 then pair.kind_name || ' ' else 'column ' end || pair.new_id::regclass,
                        case when l.objsubid <> 0 then format('.%I', a.attname) end, l.label) as text,
                        l.provider
                    from pg_seclabel as l
                    left join pg_attribute as a on l.objoid = a.attrelid and l.objsubid = a.attnum
                    where l.classoid = 'pg_class'::regclass and l.objoid = pair.old_id
                    union all
                    select format('comment on %s%s is %L',
                        case d.objsubid when 0 then pair.kind_name || ' ' else 'column ' end || pair.new_id::regclass,
                        case when d.objsubid <> 0 then format('.%I', a.attname) end, d.description), null
                    from pg_description as d
                    left join pg_attribute as a on d.objoid = a.attrelid and d.objsubid = a.attnum
                    left join pg_attribute as b
                        on b.attrelid = pair.new_id and b.attname = a.attname and not b.attisdropped
                    where
                        d.classoid = 'pg_class'::regclass and d.objoid = pair.old_id
                        and (d.objsubid = 0 or b.attnum is not null)
                        and not exists (
                            select from pg_description as e
                            where e.classoid = d.classoid and e.objoid = pair.new_id
                                and e.objsubid = case d.objsubid when 0 then 0 else b.attnum end
                        )
                loop
                    begin
                        execute entry.text;
                    exception when invalid_parameter_value then
                        raise exception using errcode = '0A000', message = format(
                            'security label of provider %I is not accepted', entry.provider
                        );
                    end;
                end loop;
            end if;
        end loop;

        if has_twin and exists (select from pg_policy where polrelid in (old_root, new_root)) then
            -- Expressions say the table's own name where they have a subquery: both have it in turn.
            for entry in select polname from pg_policy where polrelid = new_root loop
                execute format('drop policy %I on %s', entry.polname, new_root::regclass);
            end loop;
            if old_name <> named then
                execute format('alter table %s rename to %I', old_root::regclass, named);
            end if;
            select array_agg(format(
                'create policy %I on %I.%I as %s for %s to %s%s%s', polname, new_schema, named,
                case when polpermissive then 'permissive' else 'restrictive' end,
                case polcmd
                    when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all'
                end,
                (
                    select string_agg(case r when 0 then 'public' else quote_ident(pg_get_userbyid(r)) end, ', ')
                    from unnest(polroles) as r
                ),
                ' using (' || pg_get_expr(polqual, polrelid) || ')',
                ' with check (' || pg_get_expr(polwithcheck, polrelid) || ')'
            )) into made from pg_policy where polrelid = old_root;
            if old_name <> named or (select relnamespace from pg_class where oid = old_root)
                = (select relnamespace from pg_class where oid = new_root)
            then
                execute format('alter table %s rename to %I', old_root::regclass, left(named, 50) || '__former');
            end if;
            if new_name <> named then
                execute format('alter table %s rename to %I', new_root::regclass, named);
            end if;
            foreach statement in array coalesce(made, '{}') loop
                execute statement;
            end loop;
            if new_name <> named then
                execute format('alter table %s rename to %I', new_root::regclass, new_name);
            end if;
            if (select relname from pg_class where oid = old_root) <> old_name then
                execute format('alter table %s rename to %I', old_root::regclass, old_name);
            end if;
            if exists (
                select from pg_depend as d
                inner join pg_policy as p on d.classid = 'pg_policy'::regclass and d.objid = p.oid
                where p.polrelid = new_root and d.refclassid = 'pg_class'::regclass and d.refobjid = old_root
            ) then
                raise exception using errcode = '2BP01', message = 'a policy of it reads the table itself';
            end if;
        end if;
        perform set_config('search_path', former_path, true);
    exception
        when lock_not_available or deadlock_detected or query_canceled then
            raise;
        when others then
            raise exception using errcode = sqlstate, message = format(
                'the permissions of %s cannot be kept: %s', full_name,
                case when left(sqlstate, 2) in ('0A', '28', '2B', '3F', '42', '55') then sqlerrm else sqlstate end
            );
    end
    $keep$
{%- endmacro %}
