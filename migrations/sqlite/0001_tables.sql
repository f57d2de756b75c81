-- The tables of presence, embedded. Mirrors migrations/postgres in meaning; times are milliseconds since 1970, from the year 1900
-- to the year 9999. The triggers of the later files do what the API does besides, whoever writes.

-- One row. `revision` is the one sequence that orders all changes; `generation` changes when an older copy of this file was
-- put back; `actor` and `reason` say who writes, set inside the writing transaction (there is one writer at a time).
CREATE TABLE hadir_meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    generation INTEGER NOT NULL,
    revision INTEGER NOT NULL DEFAULT 0,
    actor TEXT NOT NULL DEFAULT 'sql',
    reason TEXT
) STRICT;
INSERT INTO hadir_meta (id, generation) VALUES (1, 1);

CREATE TABLE customers (
    id TEXT PRIMARY KEY,
    CONSTRAINT id_is_a_uuid_in_lower_case CHECK (id GLOB '????????-????-????-????-????????????' AND replace(id, '-', '') NOT GLOB '*[^0-9a-f]*' AND length(replace(id, '-', '')) = 32)
) STRICT, WITHOUT ROWID;

CREATE TABLE mitras (
    id TEXT PRIMARY KEY,
    display_name TEXT NOT NULL DEFAULT '' CONSTRAINT display_name_at_most_200_characters CHECK (length(display_name) <= 200)
        CONSTRAINT display_name_has_no_zero_byte CHECK (instr(display_name, char(0)) = 0),
    is_active INTEGER NOT NULL DEFAULT 1 CHECK (is_active IN (0, 1)),
    max_sessions INTEGER CONSTRAINT max_sessions_from_0_to_1000 CHECK (max_sessions BETWEEN 0 AND 1000),
    CONSTRAINT id_is_a_uuid_in_lower_case CHECK (id GLOB '????????-????-????-????-????????????' AND replace(id, '-', '') NOT GLOB '*[^0-9a-f]*' AND length(replace(id, '-', '')) = 32),
    CONSTRAINT id_is_not_nil CHECK (id <> '00000000-0000-0000-0000-000000000000')
) STRICT, WITHOUT ROWID;

CREATE TABLE mitra_status (
    mitra_id TEXT PRIMARY KEY REFERENCES mitras (id) ON DELETE CASCADE,
    is_online INTEGER NOT NULL DEFAULT 0 CHECK (is_online IN (0, 1)),
    active_sessions INTEGER NOT NULL DEFAULT 0
        CONSTRAINT active_sessions_not_negative CHECK (active_sessions BETWEEN 0 AND 2147483647),
    revision INTEGER NOT NULL DEFAULT 0,
    online_epoch INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX mitra_status_online ON mitra_status (mitra_id) WHERE is_online = 1;
CREATE INDEX mitra_status_revision ON mitra_status (revision);

CREATE TABLE mitra_heartbeats (
    mitra_id TEXT PRIMARY KEY REFERENCES mitras (id) ON DELETE CASCADE,
    last_heartbeat_at INTEGER CONSTRAINT last_heartbeat_at_is_a_time CHECK (last_heartbeat_at BETWEEN -2208988800000 AND 253402214400000)
) STRICT, WITHOUT ROWID;

CREATE TABLE chat_sessions (
    id TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL REFERENCES customers (id),
    mitra_id TEXT REFERENCES mitras (id),
    status TEXT NOT NULL DEFAULT 'searching' CONSTRAINT status_is_known CHECK (
        status IN ('searching', 'pending_payment', 'active', 'ended', 'expired', 'cancelled')
    ),
    expires_at INTEGER CONSTRAINT expires_at_is_a_time CHECK (expires_at BETWEEN -2208988800000 AND 253402214400000),
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER))
        CONSTRAINT created_at_is_a_time CHECK (created_at BETWEEN -2208988800000 AND 253402214400000),
    CONSTRAINT id_is_a_uuid_in_lower_case CHECK (id GLOB '????????-????-????-????-????????????' AND replace(id, '-', '') NOT GLOB '*[^0-9a-f]*' AND length(replace(id, '-', '')) = 32),
    CONSTRAINT a_session_under_way_has_a_mitra
        CHECK (mitra_id IS NOT NULL OR status NOT IN ('active', 'pending_payment')),
    CONSTRAINT a_searching_session_has_no_mitra CHECK (mitra_id IS NULL OR status <> 'searching')
) STRICT, WITHOUT ROWID;
CREATE INDEX chat_sessions_mitra ON chat_sessions (mitra_id, status) WHERE mitra_id IS NOT NULL;
CREATE INDEX chat_sessions_customer ON chat_sessions (customer_id);
CREATE INDEX chat_sessions_expiry ON chat_sessions (expires_at, status)
    WHERE status IN ('searching', 'pending_payment', 'active');

CREATE TABLE auth_sessions (
    id TEXT PRIMARY KEY,
    subject_id TEXT NOT NULL,
    role TEXT NOT NULL CONSTRAINT role_is_known CHECK (role IN ('mitra', 'customer', 'dashboard', 'service')),
    expires_at INTEGER NOT NULL CONSTRAINT expires_at_is_a_time CHECK (expires_at BETWEEN -2208988800000 AND 253402214400000),
    revoked_at INTEGER CONSTRAINT revoked_at_is_a_time CHECK (revoked_at BETWEEN -2208988800000 AND 253402214400000),
    CONSTRAINT id_is_a_uuid_in_lower_case CHECK (id GLOB '????????-????-????-????-????????????' AND replace(id, '-', '') NOT GLOB '*[^0-9a-f]*' AND length(replace(id, '-', '')) = 32),
    CONSTRAINT subject_id_is_a_uuid_in_lower_case CHECK (subject_id GLOB '????????-????-????-????-????????????' AND replace(subject_id, '-', '') NOT GLOB '*[^0-9a-f]*' AND length(replace(subject_id, '-', '')) = 32)
) STRICT, WITHOUT ROWID;
CREATE INDEX auth_sessions_subject ON auth_sessions (subject_id) WHERE revoked_at IS NULL;

CREATE TABLE presence_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    mitra_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT,
    actor TEXT NOT NULL,
    at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)) CONSTRAINT at_is_a_time CHECK (at BETWEEN -2208988800000 AND 253402214400000),
    session_id TEXT
) STRICT;
CREATE INDEX presence_events_mitra ON presence_events (mitra_id, id);
CREATE INDEX presence_events_at ON presence_events (at);

-- Sweeps that an operator lets rest.
CREATE TABLE hadir_sweep_pauses (
    sweep TEXT PRIMARY KEY,
    until INTEGER NOT NULL CONSTRAINT until_is_a_time CHECK (until BETWEEN -2208988800000 AND 253402214400000)
) STRICT, WITHOUT ROWID;
