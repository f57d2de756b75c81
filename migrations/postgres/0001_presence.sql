-- The truth of presence. Other programs may write these tables with plain SQL, many rows at once: everything that the API
-- does besides is done by the triggers below. Functions pin the search path they were created under, so that a writer's own
-- never matters. Lock order everywhere: mitras, then mitra_status, then mitra_heartbeats, each by id. What can be done later
-- (expiry, heartbeats) never waits for a row that somebody holds, and who needs several rows never waits for one while holding
-- another, so that they take part in no deadlock, whatever order others use.

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
    last_heartbeat_at timestamptz CONSTRAINT last_heartbeat_at_is_a_time CHECK (isfinite(last_heartbeat_at))
) WITH (fillfactor = 50);

CREATE TABLE IF NOT EXISTS chat_sessions (
    id uuid PRIMARY KEY,
    customer_id uuid NOT NULL REFERENCES customers (id),
    mitra_id uuid REFERENCES mitras (id),
    status text NOT NULL DEFAULT 'searching' CONSTRAINT status_is_known CHECK (
        status IN ('searching', 'pending_payment', 'active', 'ended', 'expired', 'cancelled')
    ),
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE auth_sessions (
    id uuid PRIMARY KEY,
    subject_id uuid NOT NULL,
    role text NOT NULL CONSTRAINT role_is_known CHECK (role IN ('mitra', 'customer', 'dashboard', 'service')),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX auth_sessions_subject ON auth_sessions (subject_id) WHERE revoked_at IS NULL;

CREATE TABLE presence_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mitra_id uuid NOT NULL,
    kind text NOT NULL,
    reason text,
    actor text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX presence_events_mitra ON presence_events (mitra_id, id);
CREATE INDEX presence_events_at ON presence_events (at);

-- Who writes, for the event: set for one transaction by our own statements, `sql` for everybody else.
CREATE FUNCTION hadir_actor() RETURNS text LANGUAGE sql STABLE AS
$$ SELECT coalesce(nullif(current_setting('hadir.actor', true), ''), 'sql') $$;
CREATE FUNCTION hadir_reason() RETURNS text LANGUAGE sql STABLE AS
$$ SELECT nullif(current_setting('hadir.reason', true), '') $$;

-- A bell, never data. Above a thousand rows one bell for all of them: look at everything. A channel's name has at most 63
-- bytes; a schema's name cut to fit at worst shares its channel.
CREATE FUNCTION hadir_ring(channel_schema text, payloads text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    channel text := 'hadir_' || left(channel_schema, 57);
BEGIN
    IF cardinality(payloads) > 1000 THEN
        PERFORM pg_notify(channel, '*');
    ELSE
        PERFORM pg_notify(channel, payload) FROM unnest(payloads) AS payload;
    END IF;
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

-- Removed for good: whoever hears the bell finds no row.
CREATE FUNCTION hadir_mitras_deleted() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM hadir_ring(TG_TABLE_SCHEMA, array_agg(id || ':' || nextval('hadir_revision'))) FROM old_rows
        HAVING count(*) > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER hadir_mitras_deleted AFTER DELETE ON mitras
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hadir_mitras_deleted();

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

-- What the server reads of a mitra, in one statement.
CREATE VIEW hadir_mitras AS
    SELECT m.id, m.display_name, m.is_active, s.is_online, s.active_sessions, m.max_sessions, s.revision, s.online_epoch,
        (SELECT generation FROM hadir_meta) AS generation,
        h.last_heartbeat_at,
        (extract(epoch FROM clock_timestamp() - h.last_heartbeat_at) * 1000)::bigint AS age_ms
    FROM mitras m JOIN mitra_status s ON s.mitra_id = m.id JOIN mitra_heartbeats h ON h.mitra_id = m.id;

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
    is_changed boolean;
BEGIN
    PERFORM set_config('hadir.actor', actor, true), set_config('hadir.reason', why, true);
    UPDATE mitras m SET is_active = active WHERE m.id = mitra AND m.is_active <> active;
    is_changed := FOUND;
    RETURN QUERY SELECT is_changed, r FROM hadir_mitras r WHERE r.id = mitra;
END $$;

CREATE FUNCTION hadir_put_mitra(mitra uuid, name text, capacity integer, actor text, why text)
RETURNS TABLE (changed boolean, mitra_row hadir_mitras) LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    had integer;
    is_changed boolean := true;
BEGIN
    PERFORM set_config('hadir.actor', actor, true), set_config('hadir.reason', why, true);
    INSERT INTO mitras (id, display_name, max_sessions) VALUES (mitra, name, capacity) ON CONFLICT (id) DO NOTHING;
    IF NOT FOUND THEN
        SELECT m.max_sessions INTO had FROM mitras m WHERE m.id = mitra FOR NO KEY UPDATE;
        is_changed := capacity IS NOT NULL AND capacity IS DISTINCT FROM had;
        UPDATE mitras m SET display_name = name, max_sessions = coalesce(capacity, had) WHERE m.id = mitra;
    END IF;
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
            AND coalesce(h.last_heartbeat_at, '-infinity') <= clock_timestamp() - silent_ms * interval '1 millisecond'
        RETURNING s.mitra_id
    )
    SELECT array_agg(c.mitra_id) INTO expired FROM changed c;
    RETURN QUERY SELECT r.* FROM hadir_mitras r WHERE r.id = ANY (expired) ORDER BY r.id;
-- As `hadir_take` says: nobody this time.
EXCEPTION WHEN lock_not_available THEN
    RETURN;
END $$;

-- Ages, not times: only ages cross clocks. Rows that another transaction holds are not waited for: `busy` names them, to be
-- asked for again.
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
        WHERE h.last_heartbeat_at IS NULL OR h.last_heartbeat_at < b.at;
    SELECT array_agg(l.mitra_id) INTO held FROM (
        SELECT mitra_id FROM mitra_heartbeats WHERE mitra_id = ANY (newer) FOR NO KEY UPDATE SKIP LOCKED
    ) l;
    UPDATE mitra_heartbeats h SET last_heartbeat_at = b.at
        FROM unnest(newer, times) AS b (id, at)
        WHERE h.mitra_id = b.id AND h.mitra_id = ANY (held)
            AND (h.last_heartbeat_at IS NULL OR h.last_heartbeat_at < b.at);
    GET DIAGNOSTICS moved = ROW_COUNT;
    SELECT coalesce(array_agg(l.id), '{}') INTO busy FROM (SELECT unnest(newer) AS id EXCEPT SELECT unnest(held)) l;
-- As `hadir_take` says: all of them are to be asked for again.
EXCEPTION WHEN lock_not_available THEN
    moved := 0;
    busy := newer;
END $$;
