-- The truth of presence, embedded. Mirrors migrations/postgres in meaning; times are milliseconds since 1970.

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
    id TEXT PRIMARY KEY CHECK (length(id) = 36)
) STRICT, WITHOUT ROWID;

CREATE TABLE mitras (
    id TEXT PRIMARY KEY CHECK (length(id) = 36)
        CONSTRAINT id_is_not_nil CHECK (id <> '00000000-0000-0000-0000-000000000000'),
    display_name TEXT NOT NULL DEFAULT '' CONSTRAINT display_name_at_most_200_characters CHECK (length(display_name) <= 200)
        CONSTRAINT display_name_has_no_zero_byte CHECK (instr(display_name, char(0)) = 0),
    is_active INTEGER NOT NULL DEFAULT 1 CHECK (is_active IN (0, 1)),
    max_sessions INTEGER CONSTRAINT max_sessions_from_0_to_1000 CHECK (max_sessions BETWEEN 0 AND 1000)
) STRICT, WITHOUT ROWID;

CREATE TABLE mitra_status (
    mitra_id TEXT PRIMARY KEY REFERENCES mitras (id) ON DELETE CASCADE,
    is_online INTEGER NOT NULL DEFAULT 0 CHECK (is_online IN (0, 1)),
    active_sessions INTEGER NOT NULL DEFAULT 0 CHECK (active_sessions >= 0),
    revision INTEGER NOT NULL DEFAULT 0,
    online_epoch INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX mitra_status_online ON mitra_status (mitra_id) WHERE is_online = 1;
CREATE INDEX mitra_status_revision ON mitra_status (revision);

CREATE TABLE mitra_heartbeats (
    mitra_id TEXT PRIMARY KEY REFERENCES mitras (id) ON DELETE CASCADE,
    last_heartbeat_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE chat_sessions (
    id TEXT PRIMARY KEY CHECK (length(id) = 36),
    customer_id TEXT NOT NULL REFERENCES customers (id),
    mitra_id TEXT REFERENCES mitras (id),
    status TEXT NOT NULL DEFAULT 'searching' CONSTRAINT status_is_known CHECK (
        status IN ('searching', 'pending_payment', 'active', 'ended', 'expired', 'cancelled')
    ),
    expires_at INTEGER,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER))
) STRICT, WITHOUT ROWID;

CREATE TABLE auth_sessions (
    id TEXT PRIMARY KEY CHECK (length(id) = 36),
    subject_id TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('mitra', 'customer', 'dashboard', 'service')),
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX auth_sessions_subject ON auth_sessions (subject_id) WHERE revoked_at IS NULL;

CREATE TABLE presence_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    mitra_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT,
    actor TEXT NOT NULL,
    at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER))
) STRICT;
CREATE INDEX presence_events_mitra ON presence_events (mitra_id, id);
CREATE INDEX presence_events_at ON presence_events (at);

CREATE TRIGGER mitra_created AFTER INSERT ON mitras BEGIN
    UPDATE hadir_meta SET revision = revision + 1;
    INSERT INTO mitra_status (mitra_id, revision) SELECT NEW.id, revision FROM hadir_meta;
    INSERT INTO mitra_heartbeats (mitra_id) VALUES (NEW.id);
    INSERT INTO presence_events (mitra_id, kind, reason, actor) SELECT NEW.id, 'created', reason, actor FROM hadir_meta;
END;

CREATE TRIGGER mitra_capacity AFTER UPDATE OF max_sessions ON mitras WHEN NEW.max_sessions IS NOT OLD.max_sessions BEGIN
    UPDATE hadir_meta SET revision = revision + 1;
    UPDATE mitra_status SET revision = (SELECT revision FROM hadir_meta) WHERE mitra_id = NEW.id;
    INSERT INTO presence_events (mitra_id, kind, reason, actor) SELECT NEW.id, 'capacity', reason, actor FROM hadir_meta;
END;

-- Deactivation takes the mitra offline and revokes its sign-ins, whoever wrote it; a reactivated mitra is still offline.
CREATE TRIGGER mitra_activity AFTER UPDATE OF is_active ON mitras WHEN NEW.is_active <> OLD.is_active BEGIN
    UPDATE mitra_status SET is_online = 0 WHERE mitra_id = NEW.id AND is_online = 1;
    UPDATE auth_sessions SET revoked_at = CAST(unixepoch('subsec') * 1000 AS INTEGER)
        WHERE subject_id = NEW.id AND revoked_at IS NULL AND NEW.is_active = 0;
    UPDATE hadir_meta SET revision = revision + 1;
    UPDATE mitra_status SET revision = (SELECT revision FROM hadir_meta) WHERE mitra_id = NEW.id;
    INSERT INTO presence_events (mitra_id, kind, reason, actor)
        SELECT NEW.id, iif(NEW.is_active = 1, 'reactivated', 'deactivated'), reason, actor FROM hadir_meta;
END;

CREATE TRIGGER mitra_may_go_online BEFORE UPDATE OF is_online ON mitra_status
    WHEN NEW.is_online = 1 AND OLD.is_online = 0 AND (SELECT is_active FROM mitras WHERE id = NEW.mitra_id) = 0
BEGIN
    SELECT RAISE(ABORT, 'a deactivated mitra cannot go online');
END;

CREATE TRIGGER mitra_presence AFTER UPDATE OF is_online ON mitra_status WHEN NEW.is_online <> OLD.is_online BEGIN
    UPDATE hadir_meta SET revision = revision + 1;
    UPDATE mitra_status
        SET revision = (SELECT revision FROM hadir_meta), online_epoch = online_epoch + NEW.is_online
        WHERE mitra_id = NEW.mitra_id;
    UPDATE mitra_heartbeats SET last_heartbeat_at = CAST(unixepoch('subsec') * 1000 AS INTEGER)
        WHERE mitra_id = NEW.mitra_id AND NEW.is_online = 1;
    INSERT INTO presence_events (mitra_id, kind, reason, actor)
        SELECT NEW.mitra_id, iif(NEW.is_online = 1, 'online', 'offline'), reason, actor FROM hadir_meta;
END;

CREATE TRIGGER mitra_load AFTER UPDATE OF active_sessions ON mitra_status
    WHEN NEW.active_sessions <> OLD.active_sessions
BEGIN
    UPDATE hadir_meta SET revision = revision + 1;
    UPDATE mitra_status SET revision = (SELECT revision FROM hadir_meta) WHERE mitra_id = NEW.mitra_id;
END;
