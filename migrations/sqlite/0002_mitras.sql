-- What follows from every write of a mitra, whoever wrote it. Mirrors migrations/postgres in meaning.

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

-- Every mitra has a status and a heartbeat: where one was removed and the mitra was not, it is there again at once. The mitra is
-- offline then, with the sessions it has.
CREATE TRIGGER status_removed AFTER DELETE ON mitra_status WHEN EXISTS (SELECT 1 FROM mitras WHERE id = OLD.mitra_id) BEGIN
    UPDATE hadir_meta SET revision = revision + 1;
    INSERT INTO mitra_status (mitra_id, revision, online_epoch, active_sessions)
        SELECT OLD.mitra_id, revision, OLD.online_epoch, (SELECT count(*) FROM chat_sessions c
            WHERE c.mitra_id = OLD.mitra_id AND c.status IN ('active', 'pending_payment')) FROM hadir_meta;
    INSERT INTO presence_events (mitra_id, kind, reason, actor)
        SELECT OLD.mitra_id, 'offline', 'its status was removed', actor FROM hadir_meta;
END;

CREATE TRIGGER heartbeat_removed AFTER DELETE ON mitra_heartbeats
    WHEN EXISTS (SELECT 1 FROM mitras WHERE id = OLD.mitra_id)
BEGIN
    INSERT INTO mitra_heartbeats (mitra_id) VALUES (OLD.mitra_id);
END;

-- Without its row every mitra would be of an older generation than before.
CREATE TRIGGER meta_stays BEFORE DELETE ON hadir_meta BEGIN
    SELECT RAISE(ABORT, 'hadir_meta is Hadir''s own: its row stays');
END;
