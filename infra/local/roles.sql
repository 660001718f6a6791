-- The roles of the platform, least privilege. Run once for a cluster, by a role with CREATEROLE; running it again
-- changes nothing. Then run roles_warehouse.sql in the warehouse. Passwords are set apart, so that none stands in a
-- file:
--     alter role medallion_loader password '…';
--
--   medallion_extractor    reads the sources, and sees since when their transactions run
--   medallion_loader       writes raw, operations and quarantine
--   medallion_transformer  reads those, writes staging, silver, gold and snapshots
--   medallion_reader       reads gold
--   medallion_reviewer     reads those, builds the models of a pull request in schemas of its own: roles_reviewer.sql
--   medallion_dashboard    reads gold and what `medallion dashboard` shows of operations: roles_dashboard.sql
do $$
declare
    wanted text;
begin
    foreach wanted in array array[
        'medallion_extractor', 'medallion_loader', 'medallion_transformer', 'medallion_reader', 'medallion_reviewer',
        'medallion_dashboard'
    ] loop
        if not exists (select from pg_catalog.pg_roles where rolname = wanted) then
            execute format('create role %I login nosuperuser nocreatedb nocreaterole noreplication nobypassrls', wanted);
        end if;
    end loop;
end
$$;

-- What one session may take from the others, for each role and the second account that a rotation makes for it (which
-- logs in under its own name, so settings of the role alone would not reach it). A person may set another value in a
-- session, except for temp_file_limit and the number of connections: this bounds accidents. docs/operations.md explains
-- the values. A role may also change its own defaults (`alter role current_user set …`, for one database too), so all are
-- reset first, and what somebody had put there is told.
do $$
declare
    account text;
    bound record;
    database text;
    former text[];
    drifted text;
begin
    select coalesce(array_agg(format('%s: %s', c.setrole::regrole, c.setting)), '{}') into former
    from (select s.setrole, unnest(s.setconfig) as setting from pg_catalog.pg_db_role_setting as s) as c
    inner join pg_catalog.pg_roles as r on c.setrole = r.oid
    where r.rolname ~ '^medallion_(extractor|loader|transformer|reader|reviewer|dashboard)(_clone)?$';
    for account in
        select rolname from pg_catalog.pg_roles
        where rolname ~ '^medallion_(extractor|loader|transformer|reader|reviewer|dashboard)(_clone)?$'
    loop
        execute format('alter role %I reset all', account);
        for database in
            select d.datname from pg_catalog.pg_db_role_setting as s
            inner join pg_catalog.pg_database as d on s.setdatabase = d.oid
            where s.setrole = quote_ident(account)::regrole
        loop
            execute format('alter role %I in database %I reset all', account, database);
        end loop;
        -- A second account acts as its role from its first statement on: flows/access/rotation.py.
        if account like '%\_clone' then
            execute format('alter role %I set role = %L', account, left(account, -length('_clone')));
        end if;
    end loop;
    for bound in
        select * from (values
            -- An idle transaction keeps models from being replaced. Less than MEDALLION_BUILD_LOCK_WAIT_SECONDS, so
            -- that a build outlasts it.
            ('medallion_reader', 'idle_in_transaction_session_timeout', '1min'),
            ('medallion_reader', 'statement_timeout', '15min'),
            -- A reader waits for moments only, and whoever comes later waits behind it if it asks for more than to read.
            ('medallion_reader', 'lock_timeout', '5s'),
            ('medallion_reader', 'temp_file_limit', '10GB'),
            -- Models that nobody has reviewed: they keep neither the warehouse busy nor a build waiting.
            ('medallion_reviewer', 'idle_in_transaction_session_timeout', '1min'),
            ('medallion_reviewer', 'statement_timeout', '10min'),
            ('medallion_reviewer', 'lock_timeout', '30s'),
            ('medallion_reviewer', 'temp_file_limit', '10GB'),
            -- A page that takes longer is not worth what it costs the loads.
            ('medallion_dashboard', 'idle_in_transaction_session_timeout', '1min'),
            ('medallion_dashboard', 'statement_timeout', '10s'),
            ('medallion_dashboard', 'lock_timeout', '2s'),
            ('medallion_dashboard', 'temp_file_limit', '1GB'),
            -- For what the macro `wait_for_lock` does not do more gently. Longer than the loader's, so that a model that
            -- reads raw outlasts a load that waits to add a column to it.
            ('medallion_transformer', 'lock_timeout', '2min'),
            ('medallion_transformer', 'idle_in_transaction_session_timeout', '5min'),
            ('medallion_transformer', 'statement_timeout', '2h'),
            -- Only a changed column of raw waits for the models that read it; a load that waited in vain is retried.
            ('medallion_loader', 'lock_timeout', '1min'),
            ('medallion_loader', 'idle_in_transaction_session_timeout', '15min'),
            -- At the source: behind a session that waits for a migration's lock, or keeps it waiting, all others queue.
            ('medallion_extractor', 'lock_timeout', '30s'),
            ('medallion_extractor', 'idle_in_transaction_session_timeout', '15min'),
            ('medallion_extractor', 'statement_timeout', '2h')
        ) as declared (role, setting, value)
        -- A machine that is gone: the server notices after 90 s instead of two hours, and frees what its sessions held.
        union all
        select r.role, k.setting, k.value
        from unnest(array[
            'medallion_extractor', 'medallion_loader', 'medallion_transformer', 'medallion_reader', 'medallion_reviewer',
            'medallion_dashboard'
        ]) as r (role)
        cross join (values
            ('tcp_keepalives_idle', '60'), ('tcp_keepalives_interval', '10'), ('tcp_keepalives_count', '3')
        ) as k (setting, value)
    loop
        for account in
            select rolname from pg_catalog.pg_roles where rolname in (bound.role, bound.role || '_clone')
        loop
            begin
                execute format('alter role %I set %I = %L', account, bound.setting, bound.value);
            exception
                -- temp_file_limit is a superuser's to set, or whoever was granted it (PostgreSQL 15 and later).
                when insufficient_privilege then
                    if bound.setting <> 'temp_file_limit' then
                        raise;
                    end if;
                    raise notice 'temp_file_limit of % could not be set by %', account, current_user
                        using hint = 'Set it for the server, or let a role that may set it do so.';
            end;
        end loop;
    end loop;
    for bound in
        select r.rolname, declared.connections from (values
            ('medallion_reader', 20),
            ('medallion_reviewer', 8),
            ('medallion_dashboard', 12),
            -- Of a source's own server, which its applications need: docs/capacity.md counts what loads take.
            ('medallion_extractor', 40)
        ) as declared (role, connections)
        inner join pg_catalog.pg_roles as r on r.rolname in (declared.role, declared.role || '_clone')
    loop
        execute format('alter role %I connection limit %s', bound.rolname, bound.connections);
    end loop;
    for drifted in
        select unnest(former)
        except
        select format('%s: %s', c.setrole::regrole, c.setting)
        from (select s.setrole, unnest(s.setconfig) as setting from pg_catalog.pg_db_role_setting as s) as c
    loop
        raise notice 'put back what was changed of %', drifted;
    end loop;
end
$$;

-- Connections that `reserved_connections` keeps for loads and models (PostgreSQL 16 and later).
do $$
begin
    if exists (select from pg_catalog.pg_roles where rolname = 'pg_use_reserved_connections') then
        grant pg_use_reserved_connections to medallion_loader, medallion_transformer;
    end if;
exception
    when insufficient_privilege then
        raise notice 'pg_use_reserved_connections could not be granted by %', current_user
            using hint = 'Let a role with ADMIN OPTION on it grant it to medallion_loader and medallion_transformer.';
end
$$;

-- The upper bound of a load stays below the oldest open transaction of the source; without this the extractor
-- would see the start of its own transactions only, and rows committed late would be lost. Loader and
-- transformer tell since when a transaction keeps them waiting.
do $$
declare
    wanted text;
begin
    foreach wanted in array array['medallion_extractor', 'medallion_loader', 'medallion_transformer'] loop
        if not pg_catalog.pg_has_role(wanted, 'pg_read_all_stats', 'member') then
            execute format('grant pg_read_all_stats to %I', wanted);
        end if;
    end loop;
exception
    -- Who may give it, differs between providers. A warehouse alone does not need it.
    when insufficient_privilege then
        raise notice 'pg_read_all_stats could not be granted by %', current_user
            using hint = 'Let a role with ADMIN OPTION on it grant it: to medallion_extractor where sources are read in this cluster, '
            'to medallion_loader and medallion_transformer so that errors tell since when they were kept waiting.';
end
$$;
