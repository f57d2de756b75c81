-- no-transaction
-- Counts the sessions that were there before the triggers, a thousand mitras at a time, so that nobody waits long for a row. Those
-- who are written meanwhile are counted by the triggers already.
DO $$
DECLARE
    batch uuid[];
    last uuid := '00000000-0000-0000-0000-000000000000';
    broken regclass;
BEGIN
    -- What a broken-off CREATE INDEX CONCURRENTLY left behind is of no use.
    FOR broken IN
        SELECT i.indexrelid FROM pg_index i WHERE i.indrelid = 'chat_sessions'::regclass AND NOT i.indisvalid
    LOOP
        EXECUTE format('REINDEX INDEX %s', broken);
    END LOOP;
    LOOP
        SELECT array_agg(s.mitra_id ORDER BY s.mitra_id) INTO batch
            FROM (SELECT mitra_id FROM mitra_status WHERE mitra_id > last ORDER BY mitra_id LIMIT 1000) s;
        EXIT WHEN batch IS NULL;
        last := batch[cardinality(batch)];
        PERFORM hadir_count_sessions(batch);
        COMMIT;
    END LOOP;
END $$;
