-- What keeps roles that only read from stopping everybody else. Run in the warehouse after roles_reviewer.sql; running it
-- again changes nothing. It needs a superuser, or a role that may create event triggers (RDS: rds_superuser); anybody else
-- gets a notice.
--
-- `create rule … on t` waits for the strongest lock on t before it asks whether the caller owns t, and all who come later
-- queue behind it. Two sessions suffice, one that reads t and one that waits; t may be a table of raw or gold, or
-- pg_class, without which nobody can even connect. Rights do not prevent that, for everybody may use pg_catalog. An event
-- trigger acts before the lock: readers define nothing, reviews only what dbt builds.
do $$
begin
    create schema if not exists guard;
    revoke all on schema guard from public;

    create or replace function guard.refuse_definition() returns event_trigger
    language plpgsql set search_path = pg_catalog, pg_temp as $body$
    begin
        -- The functions that open and close schemas for a review act as the transformer. A database may be restored into a
        -- server without our roles, hence to_regrole.
        if pg_has_role(current_user, to_regrole('medallion_transformer')::oid, 'member') then
            return;
        end if;
        if pg_has_role(current_user, to_regrole('medallion_reviewer')::oid, 'member') then
            if tg_tag in (
                'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE VIEW', 'CREATE MATERIALIZED VIEW',
                'CREATE INDEX', 'ALTER TABLE', 'ALTER VIEW', 'ALTER MATERIALIZED VIEW', 'REFRESH MATERIALIZED VIEW',
                'DROP TABLE', 'DROP VIEW', 'DROP MATERIALIZED VIEW', 'DROP INDEX', 'COMMENT', 'GRANT', 'REVOKE'
            ) then
                -- A foreign key locks the table that it names against writes, also before it asks. `prepare` holds what
                -- it waits for. DO is refused below, so the statement is in the text that the client sent.
                if tg_tag in ('CREATE TABLE', 'ALTER TABLE') and current_query() ~* '\mreferences\M' then
                    raise exception 'a review may declare no foreign key'
                        using errcode = 'insufficient_privilege',
                        hint = 'Leave the word "references" out of models with a contract, comments included.';
                end if;
                return;
            end if;
        elsif
            pg_has_role(current_user, to_regrole('medallion_reader')::oid, 'member') is not true
            and pg_has_role(current_user, to_regrole('medallion_dashboard')::oid, 'member') is not true
        then
            return;
        end if;
        raise exception '% may not run %', current_user, tg_tag using errcode = 'insufficient_privilege';
    end
    $body$;

    -- `alter table … attach partition t` locks t in the same way, and only a partitioned table has partitions.
    create or replace function guard.refuse_partitions() returns event_trigger
    language plpgsql set search_path = pg_catalog, pg_temp as $body$
    begin
        if
            pg_has_role(current_user, to_regrole('medallion_reviewer')::oid, 'member')
            and not pg_has_role(current_user, to_regrole('medallion_transformer')::oid, 'member')
            and exists (
                select from pg_event_trigger_ddl_commands() as made inner join pg_class as class on made.objid = class.oid
                where made.classid = 'pg_class'::regclass and class.relkind = 'p'
            )
        then
            raise exception 'a review may create no partitioned table' using errcode = 'insufficient_privilege';
        end if;
    end
    $body$;

    if not exists (select from pg_catalog.pg_event_trigger where evtname = 'medallion_definitions') then
        create event trigger medallion_definitions on ddl_command_start execute function guard.refuse_definition();
    end if;
    if not exists (select from pg_catalog.pg_event_trigger where evtname = 'medallion_partitions') then
        create event trigger medallion_partitions on ddl_command_end when tag in ('CREATE TABLE')
        execute function guard.refuse_partitions();
    end if;

    -- What DO composes is in no text that the client sent.
    revoke usage on language plpgsql from public;
    grant usage on language plpgsql to medallion_loader, medallion_transformer;
exception
    when insufficient_privilege then
        raise notice 'event triggers could not be created by %', current_user
            using hint = 'Let a superuser run roles_guard.sql: until then readers and reviews can stop the warehouse with two sessions.';
end
$$;
