-- What a warehouse made by an earlier version lacks, before schema.sql completes it. Idempotent.
-- Nothing here asks which version that was: some shared a number and differed.

-- Version 1 counted quarantined rows only later, and rows above the window at first.
alter table if exists ops.loads drop column if exists source_rows_above;
alter table if exists ops.loads add column if not exists quarantine_rows bigint;
alter table if exists ops.loads add column if not exists volume text;
alter table if exists ops.loads drop constraint if exists loads_status_check;
alter table if exists ops.loads add constraint loads_status_check check (
    status in ('running', 'published', 'failed', 'refused', 'rescheduled', 'stopped')
);
alter table if exists ops.runs drop constraint if exists runs_status_check;
alter table if exists ops.runs add constraint runs_status_check check (
    status in ('running', 'done', 'failed', 'refused', 'rescheduled', 'stopped')
);
alter table if exists ops.loads drop constraint if exists every_row_is_accounted_for;
alter table if exists ops.loads add constraint every_row_is_accounted_for check (
    status <> 'published'
    or coalesce(
        rows_read = rows_inserted + rows_updated + rows_unchanged + rows_deduplicated + rows_quarantined, false
    )
);
alter table if exists ops.schema_changes add column if not exists applied boolean not null default true;
-- Changes of before there were events are not told any more.
alter table if exists ops.schema_changes add column if not exists announced boolean not null default true;
alter table if exists ops.schema_changes alter column announced set default false;

-- Version 10 has one name for how a table is loaded (mode, path → strategy) and one set of results of a comparison.
do $$
declare
    renamed record;
    of_column text;
begin
    for renamed in
        select * from (values
            ('ops.loads', 'path', 'strategy'),
            ('ops.loads', 'reconciled', 'reconciliation'),
            ('ops.reads', 'path', 'strategy'),
            ('ops.errors', 'next_move', 'fix'),
            ('ops.reconciliations', 'verdict', 'result'),
            ('ops.reconciliations', 'surplus', 'extra'),
            ('ops.reconciliations', 'waiting', 'pending')
        ) as names (relation, earlier, later)
    loop
        if exists (
            select from pg_attribute
            where attrelid = to_regclass(renamed.relation) and attname = renamed.earlier and not attisdropped
        ) then
            execute format('alter table %s rename column %I to %I', renamed.relation, renamed.earlier, renamed.later);
            -- PostgreSQL 18 names these constraints after the column.
            of_column := split_part(renamed.relation, '.', 2) || '_%s_not_null';
            if exists (
                select from pg_constraint
                where conrelid = to_regclass(renamed.relation) and conname = format(of_column, renamed.earlier)
            ) then
                execute format(
                    'alter table %s rename constraint %I to %I', renamed.relation,
                    format(of_column, renamed.earlier), format(of_column, renamed.later)
                );
            end if;
        end if;
    end loop;
end
$$;
alter table if exists ops.loads drop column if exists mode;
alter table if exists ops.loads drop constraint if exists loads_reconciled_check;
alter table if exists ops.loads drop constraint if exists loads_reconciliation_check;
alter table if exists ops.reconciliations drop constraint if exists reconciliations_verdict_check;
alter table if exists ops.reconciliations drop constraint if exists reconciliations_result_check;
do $$
begin
    if to_regclass('ops.loads') is not null then
        update ops.loads set
            strategy = case strategy when 'first' then 'initial' when 'reread' then 'reload' else strategy end,
            reconciliation = case reconciliation
                when 'equal' then 'match' when 'missing in raw' then 'missing' when 'surplus in raw' then 'extra'
                when 'source gives no count' then 'not_compared' when 'more chunks follow' then 'incomplete'
                else reconciliation
            end
        where strategy in ('first', 'reread')
            or reconciliation in (
                'equal', 'missing in raw', 'surplus in raw', 'source gives no count', 'more chunks follow'
            );
        update ops.runs set details = details - 'whole' || jsonb_build_object('full_build', details -> 'whole')
        where details ? 'whole';
    end if;
    if to_regclass('ops.reads') is not null then
        update ops.reads set strategy = case strategy when 'first' then 'initial' else 'reload' end
        where strategy in ('first', 'reread');
    end if;
    if to_regclass('ops.reconciliations') is not null then
        update ops.reconciliations set
            result = case result when 'equal' then 'match' when 'different' then result else 'not_compared' end,
            keys = case when keys ? 'surplus' then keys - 'surplus' || jsonb_build_object('extra', keys -> 'surplus')
                else keys end
        where result in ('equal', 'not loaded yet', 'source gives no count') or keys ? 'surplus';
    end if;
end
$$;
alter table if exists ops.loads add constraint loads_reconciliation_check check (
    reconciliation in ('match', 'missing', 'extra', 'duplicate', 'not_compared', 'incomplete', 'limited')
);
alter table if exists ops.reconciliations add constraint reconciliations_result_check check (
    result in ('match', 'different', 'not_compared')
);
do $$
begin
    if to_regclass('quarantine.rows') is not null then
        update quarantine.rows set resolution = 'fixed at the source' where resolution = 'mended at the source';
    end if;
end
$$;

-- Version 11 stores what a cursor belongs to.
alter table if exists ops.cursors add column if not exists identity jsonb;
-- Version 11 compares keys, counts duplicates, and counts the rows of each chunk before they are published.
alter table if exists ops.loads add column if not exists missing_rows bigint;
alter table if exists ops.loads add column if not exists extra_rows bigint;
alter table if exists ops.loads add column if not exists duplicate_rows bigint;
alter table if exists ops.loads add column if not exists key_difference numeric;
alter table if exists ops.loads add column if not exists skipped text;
alter table if exists ops.reconciliations add column if not exists duplicate bigint not null default 0;
alter table if exists ops.chunks add column if not exists written_by text;
-- Version 12 has budgets, at which loads stop.
alter table if exists ops.loads add column if not exists stops integer not null default 0;
-- Version 12 says which versions the source still has, since a person may fix or discard a row.
do $$
begin
    if to_regclass('quarantine.rows') is not null then
        alter table quarantine.rows add column if not exists resolved_by text;
        alter table quarantine.rows add column if not exists reason text;
        alter table quarantine.rows add column if not exists released_at timestamptz;
        alter table quarantine.rows add column if not exists fix_id bigint;
        alter table quarantine.rows add column if not exists seen_batch_id bigint;
        alter table quarantine.rows add column if not exists withheld boolean generated always as (
            resolved_at is null
            or (released_at is null and coalesce(resolution in ('fixed by hand', 'discarded'), false))
        ) stored;
    end if;
end
$$;
drop index if exists quarantine.rows_open_by_table, quarantine.rows_open_once;
