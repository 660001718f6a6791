-- What a warehouse made by an earlier version lacks, before schema.sql completes it. Idempotent.
-- Nothing here asks which version that was: some shared a number and differed.

-- Version 1 counted quarantined rows only later, and rows above the window at first.
alter table if exists ops.loads drop column if exists source_rows_above;
alter table if exists ops.loads add column if not exists quarantine_rows bigint;
alter table if exists ops.loads add column if not exists volume text;
alter table if exists ops.loads drop constraint if exists loads_reconciled_check;
alter table if exists ops.loads add constraint loads_reconciled_check check (
    reconciled in ('equal', 'missing in raw', 'surplus in raw', 'source gives no count', 'more chunks follow')
);
alter table if exists ops.loads drop constraint if exists loads_status_check;
alter table if exists ops.loads add constraint loads_status_check check (
    status in ('running', 'published', 'failed', 'refused', 'rescheduled')
);
alter table if exists ops.runs drop constraint if exists runs_status_check;
alter table if exists ops.runs add constraint runs_status_check check (
    status in ('running', 'done', 'failed', 'refused', 'rescheduled')
);

-- Tombstones once had a count of their own, beside the rows they ended in rows_deleted; by themselves they changed no
-- row. Now they are among the rows that changed or did not. The counts must add up before and after.
alter table if exists ops.loads drop constraint if exists every_row_is_accounted_for;
do $$
begin
    if exists (
        select from pg_attribute
        where attrelid = to_regclass('ops.loads') and attname = 'rows_tombstones' and not attisdropped
    ) then
        update ops.loads set rows_unchanged = coalesce(rows_unchanged, 0) + rows_tombstones where rows_tombstones <> 0;
        alter table ops.loads drop column rows_tombstones;
    end if;
end
$$;
alter table if exists ops.loads add constraint every_row_is_accounted_for check (
    status <> 'published'
    or coalesce(
        rows_read = rows_inserted + rows_updated + rows_unchanged + rows_deduplicated + rows_quarantined, false
    )
);

-- Who read a chunk was not written down at first.
alter table if exists ops.chunks add column if not exists worker text not null default '';
alter table if exists ops.chunks alter column worker drop default;

alter table if exists ops.schema_changes add column if not exists applied boolean not null default true;
-- Changes of before there were events are not told any more.
alter table if exists ops.schema_changes add column if not exists announced boolean not null default true;
alter table if exists ops.schema_changes alter column announced set default false;

-- What a list had landed was read again whole at first.
alter table if exists ops.list_reads add column if not exists gathered jsonb;
