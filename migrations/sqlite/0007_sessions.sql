-- What follows from every write of a session, whoever wrote it. Mirrors migrations/postgres in meaning.

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
