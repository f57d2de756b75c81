-- What follows from every write of a mitra, whoever wrote it, and the server's own writes. Lock order everywhere: mitras, then
-- mitra_status, then mitra_heartbeats, each by id. What can be done later (expiry, heartbeats) never waits for a row that
-- somebody holds, and who needs several rows never waits for one while holding another, so that they take part in no deadlock,
-- whatever order others use.

-- Who writes, for the event: set for one transaction by our own statements, `sql` for everybody else.
CREATE FUNCTION hadir_actor() RETURNS text LANGUAGE sql STABLE AS
$$ SELECT coalesce(nullif(current_setting('hadir.actor', true), ''), 'sql') $$;

CREATE FUNCTION hadir_reason() RETURNS text LANGUAGE sql STABLE AS
$$ SELECT nullif(current_setting('hadir.reason', true), '') $$;

-- Rings the bell: a bell names rows, and carries no data. One each up to a thousand rows, and this one for more. A channel's name
-- has at most 63 bytes; a schema's name cut to fit at worst shares its channel.
CREATE FUNCTION hadir_ring_or(channel_schema text, payloads text[], for_all text) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    channel text := 'hadir_' || left(channel_schema, 57);
BEGIN
    IF cardinality(payloads) > 1000 THEN
        PERFORM pg_notify(channel, for_all);
    ELSE
        PERFORM pg_notify(channel, payload) FROM unnest(payloads) AS payload;
    END IF;
END $$;

-- Many rows that are there: `many` and the lowest of their revisions, from which a look finds them all, however long ago it was
-- given. Many sign-ins: `revoked:*`.
CREATE FUNCTION hadir_ring(channel_schema text, payloads text[]) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM hadir_ring_or(channel_schema, payloads, CASE
        WHEN payloads[1] LIKE 'revoked:%' THEN 'revoked:*'
        ELSE 'many:' || (SELECT min(split_part(payload, ':', 2)::bigint) FROM unnest(payloads) AS payload)
    END);
END $$;

-- Takes these rows FOR NO KEY UPDATE and names one that somebody else holds: then the caller gives back what was taken, by
-- leaving its block with an exception. There is no such block here: who waits for a row that was taken in an inner block waits
-- for the end of the whole transaction. SKIP LOCKED may wait all the same, for the newer version of a row whose older one it
-- met in the moment of its commit: not for long.
CREATE FUNCTION hadir_take(relation text, key text, ids uuid[]) RETURNS uuid
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '20ms' AS $$
DECLARE
    missing uuid;
BEGIN
    EXECUTE format('WITH held AS (SELECT %2$I AS id FROM %1$I WHERE %2$I = ANY ($1) FOR NO KEY UPDATE SKIP LOCKED)
        SELECT min(r.%2$I::text)::uuid FROM %1$I r
        WHERE r.%2$I = ANY ($1) AND NOT EXISTS (SELECT 1 FROM held h WHERE h.id = r.%2$I)', relation, key)
        INTO missing USING ids;
    RETURN missing;
END $$;

-- Holds these rows FOR NO KEY UPDATE: all that are free, or none and waits for one of them. A statement of another program
-- takes rows in the order in which it finds them; in a circle with it there is nobody of ours. Only where too many are at it
-- for too long, one after the other by id.
CREATE FUNCTION hadir_hold(relation text, key text, ids uuid[]) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    awaited uuid;
    is_waiting boolean;
BEGIN
    IF cardinality(ids) = 1 THEN
        EXECUTE format('SELECT 1 FROM %I WHERE %I = $1 FOR NO KEY UPDATE', relation, key) USING ids[1];
        RETURN;
    END IF;
    FOR attempt IN 1..50 LOOP
        BEGIN
            is_waiting := true;
            IF awaited IS NOT NULL THEN
                EXECUTE format('SELECT 1 FROM %I WHERE %I = $1 FOR NO KEY UPDATE', relation, key) USING awaited;
            END IF;
            is_waiting := false;
            awaited := hadir_take(relation, key, ids);
            IF awaited IS NULL THEN
                RETURN;
            END IF;
            RAISE SQLSTATE 'HD001';
        EXCEPTION
            -- What was held in the block is free again.
            WHEN SQLSTATE 'HD001' THEN
                NULL;
            WHEN lock_not_available THEN
                IF is_waiting THEN
                    RAISE;
                END IF;
                awaited := NULL;
        END;
    END LOOP;
    EXECUTE format('SELECT 1 FROM %1$I WHERE %2$I = ANY ($1) ORDER BY %2$I FOR NO KEY UPDATE', relation, key) USING ids;
END $$;

-- Holds what a change of this mitra takes: its row, its status, and its sign-ins where they go with it. All of them, or none
-- and waits for the one that is missing: in a circle with a transaction of another program, whatever that wrote first, there is
-- nobody of ours. Where too many are at it for too long nothing is held, and the change takes them in order.
CREATE FUNCTION hadir_hold_mitra(mitra uuid, with_sign_ins boolean) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    relations constant text[] := ARRAY['mitras', 'mitra_status', 'auth_sessions'];
    keys constant text[] := ARRAY['id', 'mitra_id', 'id'];
    ids uuid[];
    awaited uuid;
    place integer;
    is_waiting boolean;
BEGIN
    FOR attempt IN 1..50 LOOP
        BEGIN
            is_waiting := true;
            IF awaited IS NOT NULL THEN
                EXECUTE format('SELECT 1 FROM %I WHERE %I = $1 FOR NO KEY UPDATE', relations[place], keys[place])
                    USING awaited;
            END IF;
            is_waiting := false;
            FOR n IN 1..CASE WHEN with_sign_ins THEN 3 ELSE 2 END LOOP
                ids := CASE n
                    WHEN 3 THEN ARRAY(SELECT a.id FROM auth_sessions a WHERE a.subject_id = mitra AND a.revoked_at IS NULL)
                    ELSE ARRAY[mitra]
                END;
                place := n;
                awaited := hadir_take(relations[n], keys[n], ids);
                IF awaited IS NOT NULL THEN
                    RAISE SQLSTATE 'HD001';
                END IF;
            END LOOP;
            RETURN;
        EXCEPTION
            -- What was held in the block is free again.
            WHEN SQLSTATE 'HD001' THEN
                NULL;
            WHEN lock_not_available THEN
                IF is_waiting THEN
                    RAISE;
                END IF;
                awaited := NULL;
        END;
    END LOOP;
END $$;

-- The revision is given while the row is locked: taken earlier it was measured out of order in a third of contended writes.
CREATE FUNCTION hadir_status_before() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.revision := nextval('hadir_revision');
        NEW.online_epoch := CASE WHEN NEW.is_online THEN 1 ELSE 0 END;
        RETURN NEW;
    END IF;
    IF NEW.is_online AND NOT OLD.is_online THEN
        IF NOT (SELECT is_active FROM mitras WHERE id = NEW.mitra_id) THEN
            RAISE EXCEPTION 'mitra % is deactivated and cannot go online', NEW.mitra_id
                USING ERRCODE = 'check_violation', CONSTRAINT = 'a_deactivated_mitra_is_offline';
        END IF;
        NEW.online_epoch := OLD.online_epoch + 1;
    ELSE
        NEW.online_epoch := OLD.online_epoch;
    END IF;
    -- A revision of -1 asks for a new one: something beside this row changed.
    IF NEW.is_online <> OLD.is_online OR NEW.active_sessions <> OLD.active_sessions OR NEW.revision = -1 THEN
        NEW.revision := nextval('hadir_revision');
    ELSE
        NEW.revision := OLD.revision;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER hadir_status_before BEFORE INSERT OR UPDATE ON mitra_status
    FOR EACH ROW EXECUTE FUNCTION hadir_status_before();

CREATE FUNCTION hadir_status_updated() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    arrived uuid[];
BEGIN
    SELECT array_agg(n.mitra_id) INTO arrived
        FROM new_rows n JOIN old_rows o USING (mitra_id) WHERE n.is_online AND NOT o.is_online;
    IF arrived IS NOT NULL THEN
        PERFORM 1 FROM mitra_heartbeats WHERE mitra_id = ANY (arrived) ORDER BY mitra_id FOR NO KEY UPDATE;
        UPDATE mitra_heartbeats SET last_heartbeat_at = clock_timestamp() WHERE mitra_id = ANY (arrived);
    END IF;
    INSERT INTO presence_events (mitra_id, kind, reason, actor)
        SELECT n.mitra_id, CASE WHEN n.is_online THEN 'online' ELSE 'offline' END, hadir_reason(), hadir_actor()
        FROM new_rows n JOIN old_rows o USING (mitra_id) WHERE n.is_online <> o.is_online ORDER BY n.mitra_id;
    PERFORM hadir_ring(TG_TABLE_SCHEMA, array_agg(n.mitra_id || ':' || n.revision))
        FROM new_rows n JOIN old_rows o USING (mitra_id) WHERE n.revision <> o.revision HAVING count(*) > 0;
    RETURN NULL;
END $$;

CREATE TRIGGER hadir_status_updated AFTER UPDATE ON mitra_status
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hadir_status_updated();

CREATE FUNCTION hadir_mitras_inserted() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO mitra_status (mitra_id) SELECT id FROM new_rows ORDER BY id;
    INSERT INTO mitra_heartbeats (mitra_id) SELECT id FROM new_rows ORDER BY id;
    INSERT INTO presence_events (mitra_id, kind, reason, actor)
        SELECT id, 'created', hadir_reason(), hadir_actor() FROM new_rows ORDER BY id;
    PERFORM hadir_ring(TG_TABLE_SCHEMA, array_agg(s.mitra_id || ':' || s.revision))
        FROM mitra_status s JOIN new_rows n ON n.id = s.mitra_id HAVING count(*) > 0;
    RETURN NULL;
END $$;

CREATE TRIGGER hadir_mitras_inserted AFTER INSERT ON mitras
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hadir_mitras_inserted();

-- Deactivation has every effect, whoever wrote it: offline, sign-ins revoked, recorded. A reactivated mitra is offline.
CREATE FUNCTION hadir_mitras_updated() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    touched uuid[];
    switched uuid[];
    signed_in uuid[];
BEGIN
    SELECT array_agg(n.id ORDER BY n.id), array_agg(n.id ORDER BY n.id) FILTER (WHERE n.is_active <> o.is_active)
        INTO touched, switched
        FROM new_rows n JOIN old_rows o USING (id)
        WHERE n.is_active <> o.is_active OR n.max_sessions IS DISTINCT FROM o.max_sessions;
    IF touched IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM hadir_hold('mitra_status', 'mitra_id', touched);
    UPDATE mitra_status SET is_online = is_online AND NOT mitra_id = ANY (coalesce(switched, '{}')), revision = -1
        WHERE mitra_id = ANY (touched);
    SELECT array_agg(s.id) INTO signed_in FROM auth_sessions s JOIN new_rows n ON n.id = s.subject_id
        WHERE n.id = ANY (switched) AND NOT n.is_active AND s.revoked_at IS NULL;
    IF signed_in IS NOT NULL THEN
        PERFORM hadir_hold('auth_sessions', 'id', signed_in);
    END IF;
    UPDATE auth_sessions SET revoked_at = clock_timestamp() WHERE id = ANY (signed_in) AND revoked_at IS NULL;
    INSERT INTO presence_events (mitra_id, kind, reason, actor)
        SELECT n.id, CASE WHEN n.is_active THEN 'reactivated' ELSE 'deactivated' END, hadir_reason(), hadir_actor()
        FROM new_rows n WHERE n.id = ANY (switched) ORDER BY n.id;
    INSERT INTO presence_events (mitra_id, kind, reason, actor)
        SELECT n.id, 'capacity', hadir_reason(), hadir_actor()
        FROM new_rows n JOIN old_rows o USING (id) WHERE n.max_sessions IS DISTINCT FROM o.max_sessions ORDER BY n.id;
    RETURN NULL;
END $$;

CREATE TRIGGER hadir_mitras_updated AFTER UPDATE ON mitras
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hadir_mitras_updated();

-- Removed for good: who hears the bell finds no row. Many that are gone no look can find: everything is compared.
CREATE FUNCTION hadir_mitras_deleted() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM hadir_ring_or(TG_TABLE_SCHEMA, array_agg(id || ':' || nextval('hadir_revision')), '*') FROM old_rows
        HAVING count(*) > 0;
    RETURN NULL;
END $$;

CREATE TRIGGER hadir_mitras_deleted AFTER DELETE ON mitras
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hadir_mitras_deleted();

-- Emptied at once: no rows are told, so everything is compared.
CREATE FUNCTION hadir_mitras_truncated() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM hadir_ring_or(TG_TABLE_SCHEMA, ARRAY['*'], '*');
    RETURN NULL;
END $$;
CREATE TRIGGER hadir_mitras_truncated AFTER TRUNCATE ON mitras
    FOR EACH STATEMENT EXECUTE FUNCTION hadir_mitras_truncated();

-- Every mitra has a status and a heartbeat: where one was removed and the mitra was not, it is there again at once. The mitra is
-- offline then, with the sessions it has.
CREATE FUNCTION hadir_restore_rows(whose uuid[]) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    restored uuid[];
BEGIN
    INSERT INTO mitra_heartbeats (mitra_id) SELECT m.id FROM mitras m
        WHERE (whose IS NULL OR m.id = ANY (whose)) ORDER BY m.id ON CONFLICT DO NOTHING;
    WITH inserted AS (
        INSERT INTO mitra_status (mitra_id, active_sessions)
            SELECT m.id, (SELECT count(*) FROM chat_sessions c
                WHERE c.mitra_id = m.id AND c.status IN ('active', 'pending_payment'))
            FROM mitras m WHERE (whose IS NULL OR m.id = ANY (whose)) ORDER BY m.id ON CONFLICT DO NOTHING
            RETURNING mitra_id
    )
    SELECT array_agg(i.mitra_id) INTO restored FROM inserted i;
    INSERT INTO presence_events (mitra_id, kind, reason, actor)
        SELECT r, 'offline', 'its status was removed', hadir_actor() FROM unnest(restored) AS r ORDER BY r;
END $$;
CREATE FUNCTION hadir_rows_removed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    whose uuid[];
BEGIN
    IF TG_OP = 'DELETE' THEN
        SELECT array_agg(o.mitra_id) INTO whose FROM old_rows o JOIN mitras m ON m.id = o.mitra_id;
        IF whose IS NULL THEN
            RETURN NULL;
        END IF;
    END IF;
    PERFORM hadir_restore_rows(whose);
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM hadir_ring_or(TG_TABLE_SCHEMA, ARRAY['*'], '*');
    ELSE
        PERFORM hadir_ring(TG_TABLE_SCHEMA, array_agg(s.mitra_id || ':' || s.revision))
            FROM mitra_status s WHERE s.mitra_id = ANY (whose) HAVING count(*) > 0;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER hadir_status_deleted AFTER DELETE ON mitra_status REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hadir_rows_removed();
CREATE TRIGGER hadir_status_truncated AFTER TRUNCATE ON mitra_status
    FOR EACH STATEMENT EXECUTE FUNCTION hadir_rows_removed();
CREATE TRIGGER hadir_heartbeats_deleted AFTER DELETE ON mitra_heartbeats REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hadir_rows_removed();
CREATE TRIGGER hadir_heartbeats_truncated AFTER TRUNCATE ON mitra_heartbeats
    FOR EACH STATEMENT EXECUTE FUNCTION hadir_rows_removed();

-- Without its row every mitra would be of an older generation than before.
CREATE FUNCTION hadir_meta_stays() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    RAISE EXCEPTION 'hadir_meta is Hadir''s own: its row stays' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER hadir_meta_stays BEFORE DELETE OR TRUNCATE ON hadir_meta
    FOR EACH STATEMENT EXECUTE FUNCTION hadir_meta_stays();

CREATE FUNCTION hadir_auth_sessions_updated() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM hadir_ring(TG_TABLE_SCHEMA, array_agg('revoked:' || n.id))
        FROM new_rows n JOIN old_rows o USING (id)
        WHERE n.revoked_at IS NOT NULL AND o.revoked_at IS NULL HAVING count(*) > 0;
    RETURN NULL;
END $$;

CREATE TRIGGER hadir_auth_sessions_updated AFTER UPDATE ON auth_sessions
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hadir_auth_sessions_updated();

-- One that was removed is no sign-in any more.
CREATE FUNCTION hadir_auth_sessions_removed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM hadir_ring_or(TG_TABLE_SCHEMA, ARRAY['revoked:*'], 'revoked:*');
    ELSE
        PERFORM hadir_ring(TG_TABLE_SCHEMA, array_agg('revoked:' || o.id)) FROM old_rows o HAVING count(*) > 0;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER hadir_auth_sessions_deleted AFTER DELETE ON auth_sessions REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hadir_auth_sessions_removed();
CREATE TRIGGER hadir_auth_sessions_truncated AFTER TRUNCATE ON auth_sessions
    FOR EACH STATEMENT EXECUTE FUNCTION hadir_auth_sessions_removed();

-- The server's own writes: one round trip, one transaction, the row as it is afterwards. No row: no such mitra.
CREATE FUNCTION hadir_set_online(mitra uuid, online boolean, actor text, why text)
RETURNS TABLE (changed boolean, mitra_row hadir_mitras) LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    was boolean;
    is_changed boolean := false;
BEGIN
    PERFORM set_config('hadir.actor', actor, true), set_config('hadir.reason', why, true);
    SELECT s.is_online INTO was FROM mitra_status s WHERE s.mitra_id = mitra FOR NO KEY UPDATE;
    -- A deactivated mitra is returned as it is: the caller refuses.
    IF FOUND AND (NOT online OR (SELECT m.is_active FROM mitras m WHERE m.id = mitra)) THEN
        is_changed := was <> online;
        IF is_changed THEN
            UPDATE mitra_status s SET is_online = online WHERE s.mitra_id = mitra;
        ELSIF online THEN
            UPDATE mitra_heartbeats h SET last_heartbeat_at = clock_timestamp() WHERE h.mitra_id = mitra;
        END IF;
    END IF;
    RETURN QUERY SELECT is_changed, r FROM hadir_mitras r WHERE r.id = mitra;
END $$;

CREATE FUNCTION hadir_set_active(mitra uuid, active boolean, actor text, why text)
RETURNS TABLE (changed boolean, mitra_row hadir_mitras) LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    is_changed boolean := false;
BEGIN
    PERFORM set_config('hadir.actor', actor, true), set_config('hadir.reason', why, true);
    -- Who is so already is waited for by nobody.
    IF EXISTS (SELECT 1 FROM mitras m WHERE m.id = mitra AND m.is_active <> active) THEN
        PERFORM hadir_hold_mitra(mitra, NOT active);
        UPDATE mitras m SET is_active = active WHERE m.id = mitra AND m.is_active <> active;
        is_changed := FOUND;
    END IF;
    RETURN QUERY SELECT is_changed, r FROM hadir_mitras r WHERE r.id = mitra;
END $$;

CREATE FUNCTION hadir_put_mitra(mitra uuid, name text, capacity integer, actor text, why text)
RETURNS TABLE (changed boolean, mitra_row hadir_mitras) LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    had integer;
    is_changed boolean := true;
    takes_status boolean := false;
BEGIN
    PERFORM set_config('hadir.actor', actor, true), set_config('hadir.reason', why, true);
    LOOP
        IF takes_status THEN
            PERFORM hadir_hold_mitra(mitra, false);
        END IF;
        BEGIN
            SELECT m.max_sessions INTO had FROM mitras m WHERE m.id = mitra FOR NO KEY UPDATE;
            IF FOUND THEN
                is_changed := capacity IS NOT NULL AND capacity IS DISTINCT FROM had;
                -- A name concerns this row alone; another capacity takes the status too, and must not wait for it here.
                IF is_changed AND NOT takes_status THEN
                    takes_status := true;
                    RAISE SQLSTATE 'HD001';
                END IF;
                UPDATE mitras m SET display_name = name, max_sessions = coalesce(capacity, had) WHERE m.id = mitra;
                EXIT;
            END IF;
        EXCEPTION
            -- What was held in the block is free again.
            WHEN SQLSTATE 'HD001' THEN
                CONTINUE;
        END;
        is_changed := true;
        -- Looked at first: a table of a backend may have columns without a default, which only an insert needs.
        INSERT INTO mitras (id, display_name, max_sessions) VALUES (mitra, name, capacity) ON CONFLICT (id) DO NOTHING;
        EXIT WHEN FOUND;
    END LOOP;
    RETURN QUERY SELECT is_changed, r FROM hadir_mitras r WHERE r.id = mitra;
END $$;

-- A row that somebody holds is being changed: it is left to the next sweep. Held first and judged in a statement of its
-- own, which sees a heartbeat that was stamped meanwhile.
CREATE FUNCTION hadir_expire_silent(ids uuid[], epochs bigint[], silent_ms bigint)
RETURNS SETOF hadir_mitras LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '20ms' AS $$
DECLARE
    held uuid[];
    expired uuid[];
BEGIN
    PERFORM set_config('hadir.actor', 'sweep', true), set_config('hadir.reason', 'silent', true);
    SELECT array_agg(l.mitra_id) INTO held FROM (
        SELECT s.mitra_id FROM mitra_status s WHERE s.mitra_id = ANY (ids) AND s.is_online
        FOR NO KEY UPDATE SKIP LOCKED
    ) l;
    WITH changed AS (
        UPDATE mitra_status s SET is_online = false
        FROM unnest(ids, epochs) AS c (id, epoch), mitra_heartbeats h
        WHERE s.mitra_id = ANY (held) AND s.is_online AND c.id = s.mitra_id AND c.epoch = s.online_epoch
            AND h.mitra_id = s.mitra_id
            AND (coalesce(h.last_heartbeat_at, '-infinity') <= clock_timestamp() - silent_ms * interval '1 millisecond'
                OR h.last_heartbeat_at > hadir_latest_heartbeat())
        RETURNING s.mitra_id
    )
    SELECT array_agg(c.mitra_id) INTO expired FROM changed c;
    RETURN QUERY SELECT r.* FROM hadir_mitras r WHERE r.id = ANY (expired) ORDER BY r.id;
-- As `hadir_take` says: nobody this time.
EXCEPTION WHEN lock_not_available THEN
    RETURN;
END $$;

-- Ages, not times: only ages cross clocks. Only forward, but for one that stands in the future, which proves nothing. Rows that
-- another transaction holds are not waited for: `busy` names them, to be asked for again.
CREATE FUNCTION hadir_record_heartbeats(ids uuid[], ages_ms bigint[], OUT moved bigint, OUT busy uuid[])
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '20ms' AS $$
DECLARE
    newer uuid[];
    times timestamptz[];
    held uuid[];
BEGIN
    SELECT array_agg(b.id), array_agg(b.at) INTO newer, times
        FROM (
            SELECT u.id, now() - min(u.age) * interval '1 millisecond' AS at
            FROM unnest(ids, ages_ms) AS u (id, age) GROUP BY u.id
        ) b
        JOIN mitra_heartbeats h ON h.mitra_id = b.id
        WHERE h.last_heartbeat_at IS NULL OR h.last_heartbeat_at < b.at OR h.last_heartbeat_at > hadir_latest_heartbeat();
    SELECT array_agg(l.mitra_id) INTO held FROM (
        SELECT mitra_id FROM mitra_heartbeats WHERE mitra_id = ANY (newer) FOR NO KEY UPDATE SKIP LOCKED
    ) l;
    UPDATE mitra_heartbeats h SET last_heartbeat_at = b.at
        FROM unnest(newer, times) AS b (id, at)
        WHERE h.mitra_id = b.id AND h.mitra_id = ANY (held)
            AND (h.last_heartbeat_at IS NULL OR h.last_heartbeat_at < b.at OR h.last_heartbeat_at > hadir_latest_heartbeat());
    GET DIAGNOSTICS moved = ROW_COUNT;
    SELECT coalesce(array_agg(l.id), '{}') INTO busy FROM (SELECT unnest(newer) AS id EXCEPT SELECT unnest(held)) l;
-- As `hadir_take` says: all of them are to be asked for again.
EXCEPTION WHEN lock_not_available THEN
    moved := 0;
    busy := newer;
END $$;
