-- The tables of presence. Other programs may write them with plain SQL, many rows at once: the triggers of the later files do
-- everything that the API does besides. Migrations run with the search path `<schema>, pg_temp`, and every function keeps the one
-- it was created under: neither a writer's own search path nor its temporary tables matter.

-- Tables of the backend whose schema this is are taken as they are, when they have what is needed; their rows get what belongs
-- to them in a later file, so that this one holds its locks only for a moment.
DO $$
DECLARE
    wrong text;
BEGIN
    SELECT string_agg(format('%s.%s should be %s and is %s', n.table_name, n.column_name,
            n.kind || CASE WHEN n.filled THEN ' NOT NULL' ELSE '' END,
            coalesce(format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END,
                'missing')), ', ')
        INTO wrong
        FROM (VALUES
            ('customers', 'id', 'uuid', true, true),
            ('mitras', 'id', 'uuid', true, true),
            ('mitras', 'display_name', 'text', true, false),
            ('mitras', 'is_active', 'boolean', true, false),
            ('mitras', 'max_sessions', 'integer', false, false),
            ('chat_sessions', 'id', 'uuid', true, true),
            ('chat_sessions', 'customer_id', 'uuid', true, true),
            ('chat_sessions', 'mitra_id', 'uuid', false, false),
            ('chat_sessions', 'status', 'text', true, false),
            ('chat_sessions', 'expires_at', 'timestamp with time zone', false, false),
            ('chat_sessions', 'created_at', 'timestamp with time zone', true, false)
        ) AS n (table_name, column_name, kind, filled, needed)
        JOIN pg_class t ON t.relname = n.table_name AND t.relnamespace = current_schema()::regnamespace
        LEFT JOIN pg_attribute a
            ON a.attrelid = t.oid AND a.attname = n.column_name AND a.attnum > 0 AND NOT a.attisdropped
        WHERE CASE
            WHEN a.attname IS NULL THEN n.needed
            ELSE replace(a.atttypid::regtype::text, 'character varying', 'text') <> n.kind OR n.filled AND NOT a.attnotnull
        END;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'the tables that are there do not fit: %', wrong USING ERRCODE = 'datatype_mismatch';
    END IF;
END $$;

CREATE SEQUENCE hadir_revision;

-- A time that a driver can hold: of `infinity`, and of the year 290000, some make a panic. For columns that are read.
CREATE FUNCTION hadir_time(given timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN given IS NOT NULL THEN greatest('1900-01-01 UTC', least(given, '9999-12-31 UTC')) END
$$;

-- Whether it is such a time, or none: for columns that are written.
CREATE FUNCTION hadir_is_time(given timestamptz) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(given >= '1900-01-01 UTC' AND given <= '9999-12-31 UTC', true)
$$;

-- The latest time at which a heartbeat proves anything. A later one was stamped before the clock was stepped back; a little is left
-- for servers of a failover pair whose clocks differ.
CREATE FUNCTION hadir_latest_heartbeat() RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT now() + interval '10 seconds'
$$;

-- How long ago a heartbeat was, in ms; NULL for one that proves nothing.
CREATE FUNCTION hadir_age_ms(heard timestamptz) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT CASE WHEN heard <= hadir_latest_heartbeat()
        THEN (extract(epoch FROM clock_timestamp() - hadir_time(heard)) * 1000)::bigint END
$$;

-- One row. The generation changes when the database was restored to an older state.
CREATE TABLE hadir_meta (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    generation bigint NOT NULL DEFAULT 1
);
INSERT INTO hadir_meta DEFAULT VALUES;

CREATE TABLE IF NOT EXISTS customers (
    id uuid PRIMARY KEY
);

CREATE TABLE IF NOT EXISTS mitras (
    id uuid PRIMARY KEY CONSTRAINT id_is_not_nil CHECK (id <> '00000000-0000-0000-0000-000000000000'),
    display_name text NOT NULL DEFAULT ''
        CONSTRAINT display_name_at_most_200_characters CHECK (char_length(display_name) <= 200),
    is_active boolean NOT NULL DEFAULT true,
    max_sessions integer CONSTRAINT max_sessions_from_0_to_1000 CHECK (max_sessions BETWEEN 0 AND 1000)
);

ALTER TABLE mitras
    ADD COLUMN IF NOT EXISTS display_name text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS is_active boolean NOT NULL DEFAULT true,
    ADD COLUMN IF NOT EXISTS max_sessions integer;

CREATE TABLE mitra_status (
    mitra_id uuid PRIMARY KEY REFERENCES mitras (id) ON DELETE CASCADE,
    is_online boolean NOT NULL DEFAULT false,
    active_sessions integer NOT NULL DEFAULT 0 CONSTRAINT active_sessions_not_negative CHECK (active_sessions >= 0),
    revision bigint NOT NULL DEFAULT 0,
    online_epoch bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 80);
CREATE INDEX mitra_status_online ON mitra_status (mitra_id) WHERE is_online;
CREATE INDEX mitra_status_revision ON mitra_status (revision);

-- Narrow and half full, so that a heartbeat is a HOT update: no index is touched.
CREATE TABLE mitra_heartbeats (
    mitra_id uuid PRIMARY KEY REFERENCES mitras (id) ON DELETE CASCADE,
    last_heartbeat_at timestamptz CONSTRAINT last_heartbeat_at_is_a_time CHECK (hadir_is_time(last_heartbeat_at))
) WITH (fillfactor = 50);

-- What a table of a backend lacks is added to it. The rules are for the rows to come; those that are there already are looked
-- at by a later file.
CREATE TABLE IF NOT EXISTS chat_sessions (
    id uuid PRIMARY KEY,
    customer_id uuid NOT NULL REFERENCES customers (id)
);
ALTER TABLE chat_sessions
    ADD COLUMN IF NOT EXISTS mitra_id uuid,
    ADD COLUMN IF NOT EXISTS status text NOT NULL DEFAULT 'searching',
    ADD COLUMN IF NOT EXISTS expires_at timestamptz,
    ADD COLUMN IF NOT EXISTS created_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE chat_sessions
    ADD CONSTRAINT status_is_known CHECK (
        status IN ('searching', 'pending_payment', 'active', 'ended', 'expired', 'cancelled')
    ) NOT VALID,
    ADD CONSTRAINT a_session_under_way_has_a_mitra
        CHECK (mitra_id IS NOT NULL OR status NOT IN ('active', 'pending_payment')) NOT VALID,
    ADD CONSTRAINT a_searching_session_has_no_mitra CHECK (mitra_id IS NULL OR status <> 'searching') NOT VALID,
    ADD CONSTRAINT expires_at_is_a_time CHECK (hadir_is_time(expires_at)) NOT VALID,
    ADD CONSTRAINT created_at_is_a_time CHECK (hadir_is_time(created_at)) NOT VALID;

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

CREATE TABLE auth_sessions (
    id uuid PRIMARY KEY,
    subject_id uuid NOT NULL,
    role text NOT NULL CONSTRAINT role_is_known CHECK (role IN ('mitra', 'customer', 'dashboard', 'service')),
    expires_at timestamptz NOT NULL CONSTRAINT expires_at_is_a_time CHECK (hadir_is_time(expires_at)),
    revoked_at timestamptz CONSTRAINT revoked_at_is_a_time CHECK (hadir_is_time(revoked_at))
);
CREATE INDEX auth_sessions_subject ON auth_sessions (subject_id) WHERE revoked_at IS NULL;

CREATE TABLE presence_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mitra_id uuid NOT NULL,
    kind text NOT NULL,
    reason text,
    actor text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp() CONSTRAINT at_is_a_time CHECK (hadir_is_time(at)),
    session_id uuid
);
CREATE INDEX presence_events_mitra ON presence_events (mitra_id, id);
CREATE INDEX presence_events_at ON presence_events (at);

-- Nodes that serve without the mirror at present and write their sockets' heartbeats here. Others import newer ones meanwhile.
CREATE TABLE hadir_lone_nodes (
    node_id text PRIMARY KEY,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp() CONSTRAINT seen_at_is_a_time CHECK (hadir_is_time(seen_at))
);

-- Sweeps that an operator lets rest, on every node.
CREATE TABLE hadir_sweep_pauses (
    sweep text PRIMARY KEY,
    until timestamptz NOT NULL CONSTRAINT until_is_a_time CHECK (hadir_is_time(until))
);

-- What the server reads of a mitra, in one statement. No age: never heard, or heard in the future.
CREATE VIEW hadir_mitras AS
    SELECT m.id, m.display_name, m.is_active, s.is_online, s.active_sessions, m.max_sessions, s.revision, s.online_epoch,
        (SELECT generation FROM hadir_meta) AS generation,
        h.last_heartbeat_at,
        hadir_age_ms(h.last_heartbeat_at) AS age_ms
    FROM mitras m JOIN mitra_status s ON s.mitra_id = m.id JOIN mitra_heartbeats h ON h.mitra_id = m.id;

-- What the server reads of a session.
CREATE VIEW hadir_sessions AS
    SELECT id, customer_id, mitra_id, status::text AS status, hadir_time(expires_at) AS expires_at,
        hadir_time(created_at) AS created_at
    FROM chat_sessions;
