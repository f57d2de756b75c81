-- What a table of a backend lacks, and rules for the rows to come; those for the rows that are there already come with a later
-- file, so that this one holds its locks only for a moment.

ALTER TABLE chat_sessions
    ADD COLUMN IF NOT EXISTS mitra_id uuid,
    ADD COLUMN IF NOT EXISTS status text NOT NULL DEFAULT 'searching',
    ADD COLUMN IF NOT EXISTS expires_at timestamptz,
    ADD COLUMN IF NOT EXISTS created_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE chat_sessions
    DROP CONSTRAINT IF EXISTS status_is_known,
    ADD CONSTRAINT status_is_known CHECK (
        status IN ('searching', 'pending_payment', 'active', 'ended', 'expired', 'cancelled')
    ) NOT VALID,
    ADD CONSTRAINT a_session_under_way_has_a_mitra
        CHECK (mitra_id IS NOT NULL OR status NOT IN ('active', 'pending_payment')) NOT VALID,
    ADD CONSTRAINT a_searching_session_has_no_mitra CHECK (mitra_id IS NULL OR status <> 'searching') NOT VALID,
    ADD CONSTRAINT expires_at_is_a_time CHECK (isfinite(expires_at)) NOT VALID;

-- A backend's own foreign key is left to it.
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM pg_constraint k
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND k.conkey = ARRAY[a.attnum]
        WHERE k.conrelid = 'chat_sessions'::regclass AND k.contype = 'f' AND a.attname = 'mitra_id'
    ) THEN
        ALTER TABLE chat_sessions ADD CONSTRAINT chat_sessions_mitra_id_fkey
            FOREIGN KEY (mitra_id) REFERENCES mitras (id) NOT VALID;
    END IF;
END $$;
