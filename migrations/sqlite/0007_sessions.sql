-- Chat sessions: rules, and what follows from every write of theirs. Mirrors migrations/postgres in meaning.

-- A table is given rules by making it anew.
CREATE TABLE chat_sessions_with_rules (
    id TEXT PRIMARY KEY CHECK (length(id) = 36),
    customer_id TEXT NOT NULL REFERENCES customers (id),
    mitra_id TEXT REFERENCES mitras (id),
    status TEXT NOT NULL DEFAULT 'searching' CONSTRAINT status_is_known CHECK (
        status IN ('searching', 'pending_payment', 'active', 'ended', 'expired', 'cancelled')
    ),
    expires_at INTEGER,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
    CONSTRAINT a_session_under_way_has_a_mitra
        CHECK (mitra_id IS NOT NULL OR status NOT IN ('active', 'pending_payment')),
    CONSTRAINT a_searching_session_has_no_mitra CHECK (mitra_id IS NULL OR status <> 'searching')
) STRICT, WITHOUT ROWID;
INSERT INTO chat_sessions_with_rules SELECT * FROM chat_sessions;
DROP TABLE chat_sessions;
ALTER TABLE chat_sessions_with_rules RENAME TO chat_sessions;
CREATE INDEX chat_sessions_mitra ON chat_sessions (mitra_id, status) WHERE mitra_id IS NOT NULL;
CREATE INDEX chat_sessions_customer ON chat_sessions (customer_id);
CREATE INDEX chat_sessions_expiry ON chat_sessions (expires_at, status)
    WHERE status IN ('searching', 'pending_payment', 'active');

ALTER TABLE presence_events ADD COLUMN session_id TEXT;

UPDATE mitra_status SET active_sessions = counted.sessions
    FROM (
        SELECT mitra_id, count(*) AS sessions FROM chat_sessions WHERE status IN ('active', 'pending_payment') GROUP BY 1
    ) AS counted
    WHERE mitra_status.mitra_id = counted.mitra_id AND active_sessions <> sessions;

CREATE TRIGGER session_inserted AFTER INSERT ON chat_sessions WHEN NEW.status IN ('active', 'pending_payment') BEGIN
    UPDATE mitra_status SET active_sessions = (SELECT count(*) FROM chat_sessions c
            WHERE c.mitra_id = NEW.mitra_id AND c.status IN ('active', 'pending_payment'))
        WHERE mitra_id = NEW.mitra_id;
    INSERT INTO presence_events (mitra_id, kind, reason, actor, session_id)
        SELECT NEW.mitra_id, 'session_started', reason, actor, NEW.id FROM hadir_meta;
END;

CREATE TRIGGER session_deleted AFTER DELETE ON chat_sessions WHEN OLD.status IN ('active', 'pending_payment') BEGIN
    UPDATE mitra_status SET active_sessions = (SELECT count(*) FROM chat_sessions c
            WHERE c.mitra_id = OLD.mitra_id AND c.status IN ('active', 'pending_payment'))
        WHERE mitra_id = OLD.mitra_id;
    INSERT INTO presence_events (mitra_id, kind, reason, actor, session_id)
        SELECT OLD.mitra_id, 'session_removed', reason, actor, OLD.id FROM hadir_meta;
END;

CREATE TRIGGER session_left AFTER UPDATE ON chat_sessions
    WHEN OLD.status IN ('active', 'pending_payment')
        AND (NEW.mitra_id IS NOT OLD.mitra_id OR NEW.status NOT IN ('active', 'pending_payment'))
BEGIN
    UPDATE mitra_status SET active_sessions = (SELECT count(*) FROM chat_sessions c
            WHERE c.mitra_id = OLD.mitra_id AND c.status IN ('active', 'pending_payment'))
        WHERE mitra_id = OLD.mitra_id;
    INSERT INTO presence_events (mitra_id, kind, reason, actor, session_id)
        SELECT OLD.mitra_id,
            CASE NEW.status WHEN 'ended' THEN 'session_ended' WHEN 'expired' THEN 'session_expired'
                ELSE 'session_rerouted' END,
            reason, actor, OLD.id FROM hadir_meta;
END;

CREATE TRIGGER session_taken AFTER UPDATE ON chat_sessions
    WHEN NEW.status IN ('active', 'pending_payment')
        AND (NEW.mitra_id IS NOT OLD.mitra_id OR OLD.status NOT IN ('active', 'pending_payment'))
BEGIN
    UPDATE mitra_status SET active_sessions = (SELECT count(*) FROM chat_sessions c
            WHERE c.mitra_id = NEW.mitra_id AND c.status IN ('active', 'pending_payment'))
        WHERE mitra_id = NEW.mitra_id;
    INSERT INTO presence_events (mitra_id, kind, reason, actor, session_id)
        SELECT NEW.mitra_id, 'session_started', reason, actor, NEW.id FROM hadir_meta;
END;

CREATE TRIGGER session_confirmed AFTER UPDATE ON chat_sessions
    WHEN NEW.mitra_id = OLD.mitra_id AND OLD.status = 'pending_payment' AND NEW.status = 'active'
BEGIN
    INSERT INTO presence_events (mitra_id, kind, reason, actor, session_id)
        SELECT NEW.mitra_id, 'session_confirmed', reason, actor, NEW.id FROM hadir_meta;
END;
