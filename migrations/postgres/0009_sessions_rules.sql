-- The rules of 0001, for the rows that were there before. Reading and writing go on meanwhile.
DO $$
DECLARE
    rule text;
BEGIN
    FOR rule IN
        SELECT conname FROM pg_constraint
        WHERE conrelid = 'chat_sessions'::regclass AND NOT convalidated AND conname IN (
            'status_is_known', 'a_session_under_way_has_a_mitra', 'a_searching_session_has_no_mitra',
            'expires_at_is_a_time', 'created_at_is_a_time', 'chat_sessions_mitra_id_fkey')
        ORDER BY conname
    LOOP
        BEGIN
            EXECUTE format('ALTER TABLE chat_sessions VALIDATE CONSTRAINT %I', rule);
        EXCEPTION WHEN check_violation OR foreign_key_violation THEN
            RAISE EXCEPTION 'rows of chat_sessions break the rule %: correct them, then migrate again', rule
                USING ERRCODE = 'check_violation', DETAIL = SQLERRM;
        END;
    END LOOP;
END $$;
