-- no-transaction
-- What the triggers of 0002 do for a new mitra, for those of a backend that were there before, a thousand at a time. Before any
-- session is counted: a trigger that finds no row to hold counts nothing.
DO $$
DECLARE
    batch uuid[];
    last uuid := '00000000-0000-0000-0000-000000000000';
BEGIN
    LOOP
        SELECT array_agg(m.id ORDER BY m.id) INTO batch
            FROM (SELECT id FROM mitras WHERE id > last ORDER BY id LIMIT 1000) m;
        EXIT WHEN batch IS NULL;
        last := batch[cardinality(batch)];
        INSERT INTO mitra_status (mitra_id) SELECT unnest(batch) ON CONFLICT DO NOTHING;
        INSERT INTO mitra_heartbeats (mitra_id) SELECT unnest(batch) ON CONFLICT DO NOTHING;
        COMMIT;
    END LOOP;
END $$;
