-- Chat sessions: what the server does to them, and what follows from every write of theirs, whoever wrote it. Lock order:
-- chat_sessions, mitras (FOR KEY SHARE, as the foreign key does), mitra_status. The indexes that this counts by are there.

-- Counting is a statement of its own, after the locks: it sees what those committed who held them before. One plan for lists
-- of any length, by index: planning anew takes longer than doing it.
CREATE FUNCTION hadir_count_sessions(mitra_ids uuid[]) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_nestloop = on SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM hadir_hold('mitra_status', 'mitra_id', mitra_ids);
    UPDATE mitra_status s SET active_sessions = counted.sessions
        FROM (
            SELECT u.id, (
                SELECT count(*)::integer FROM chat_sessions c
                WHERE c.mitra_id = u.id AND c.status IN ('active', 'pending_payment')
            ) AS sessions
            FROM (SELECT DISTINCT unnest(mitra_ids) AS id) u
        ) counted
        WHERE s.mitra_id = counted.id AND s.active_sessions <> counted.sessions;
END $$;

-- After a statement that wrote any number of rows: whose load is another than before, and what happened. A row without its
-- partner was inserted, deleted, or got another id. A plan is kept for the next call, which may be for many more rows: nested
-- loops over them are ruled out.
CREATE FUNCTION hadir_sessions_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_nestloop = off AS $$
DECLARE
    sessions uuid[];
    whose uuid[];
    kinds text[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT array_agg(n.id), array_agg(n.mitra_id), array_agg('session_started'::text) INTO sessions, whose, kinds
            FROM new_rows n WHERE n.status IN ('active', 'pending_payment');
    ELSIF TG_OP = 'DELETE' THEN
        SELECT array_agg(o.id), array_agg(o.mitra_id), array_agg('session_removed'::text) INTO sessions, whose, kinds
            FROM old_rows o WHERE o.status IN ('active', 'pending_payment');
    ELSE
        SELECT array_agg(e.session), array_agg(e.mitra), array_agg(e.kind) INTO sessions, whose, kinds FROM (
            SELECT o.id AS session, o.mitra_id AS mitra,
                CASE n.status WHEN 'ended' THEN 'session_ended' WHEN 'expired' THEN 'session_expired'
                    ELSE 'session_rerouted' END AS kind
            FROM old_rows o LEFT JOIN new_rows n ON n.id = o.id
            WHERE o.status IN ('active', 'pending_payment')
                AND (n.mitra_id = o.mitra_id AND n.status IN ('active', 'pending_payment')) IS NOT TRUE
            UNION ALL
            SELECT n.id, n.mitra_id, 'session_started'
            FROM new_rows n LEFT JOIN old_rows o ON o.id = n.id
            WHERE n.status IN ('active', 'pending_payment')
                AND (n.mitra_id = o.mitra_id AND o.status IN ('active', 'pending_payment')) IS NOT TRUE
            UNION ALL
            SELECT n.id, n.mitra_id, 'session_confirmed'
            FROM new_rows n JOIN old_rows o ON o.id = n.id
            WHERE n.mitra_id = o.mitra_id AND o.status = 'pending_payment' AND n.status = 'active'
        ) e;
    END IF;
    IF sessions IS NOT NULL THEN
        -- Paying moves no load: nobody is waited for.
        PERFORM hadir_count_sessions(array_agg(e.mitra))
            FROM unnest(whose, kinds) AS e (mitra, kind) WHERE e.kind <> 'session_confirmed' HAVING count(*) > 0;
        INSERT INTO presence_events (mitra_id, kind, reason, actor, session_id)
            SELECT e.mitra, e.kind, hadir_reason(), hadir_actor(), e.session
            FROM unnest(whose, kinds, sessions) AS e (mitra, kind, session) ORDER BY e.mitra, e.session;
    END IF;
    RETURN NULL;
END $$;
-- Emptied at once: no rows are told, so everybody is counted.
CREATE FUNCTION hadir_sessions_truncated() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    whose uuid[];
BEGIN
    SELECT array_agg(s.mitra_id) INTO whose FROM mitra_status s WHERE s.active_sessions <> 0;
    PERFORM hadir_count_sessions(whose);
    RETURN NULL;
END $$;
CREATE TRIGGER hadir_sessions_truncated AFTER TRUNCATE ON chat_sessions
    FOR EACH STATEMENT EXECUTE FUNCTION hadir_sessions_truncated();
CREATE TRIGGER hadir_sessions_inserted AFTER INSERT ON chat_sessions
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hadir_sessions_changed();
CREATE TRIGGER hadir_sessions_updated AFTER UPDATE ON chat_sessions
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hadir_sessions_changed();
CREATE TRIGGER hadir_sessions_deleted AFTER DELETE ON chat_sessions
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hadir_sessions_changed();

-- The same id again: the session as it is. Whose it is, the caller judges.
CREATE FUNCTION hadir_create_session(session uuid, customer uuid)
RETURNS TABLE (created boolean, session_row hadir_sessions) LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    is_created boolean := false;
BEGIN
    IF NOT EXISTS (SELECT 1 FROM chat_sessions c WHERE c.id = session) THEN
        -- Looked at first: a table of a backend may have columns without a default, which only an insert needs.
        IF NOT EXISTS (SELECT 1 FROM customers c WHERE c.id = customer) THEN
            INSERT INTO customers (id) VALUES (customer) ON CONFLICT (id) DO NOTHING;
        END IF;
        INSERT INTO chat_sessions (id, customer_id, status) VALUES (session, customer, 'searching')
            ON CONFLICT (id) DO NOTHING;
        is_created := FOUND;
    END IF;
    RETURN QUERY SELECT is_created, r FROM hadir_sessions r WHERE r.id = session;
END $$;

-- One step of the state machine, which the caller brings along: the n-th of `froms` leads to the n-th of `tos`; in `repeats`
-- it was done before, if `taker` has the session. `frees` takes the session from its mitra, with its time; `runs_ms` starts its
-- time, `later_ms` prolongs it; `if_due` does nothing before its time ran out. A row for each mitra concerned, or one without.
-- It waits for one row at a time and holds none meanwhile, so that it is in no circle with a transaction of another program,
-- whatever that wrote first.
CREATE FUNCTION hadir_change_session(
    session uuid, froms text[], tos text[], repeats text[], taker uuid, frees boolean, runs_ms bigint, later_ms bigint,
    if_due boolean, default_capacity integer, actor text, why text
)
RETURNS TABLE (outcome text, session_row hadir_sessions, mitra_row hadir_mitras)
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    patience constant integer := 50;
    held record;
    goal text;
    answer text;
    concerned uuid[];
    awaited uuid;
    is_waiting boolean;
    is_present boolean;
    has_room boolean;
BEGIN
    PERFORM set_config('hadir.actor', actor, true), set_config('hadir.reason', why, true);
    FOR attempt IN 1..patience LOOP
        BEGIN
            is_waiting := true;
            IF awaited IS NULL OR attempt = patience THEN
                SELECT c.status::text AS status, c.mitra_id, c.expires_at INTO held
                    FROM chat_sessions c WHERE c.id = session FOR NO KEY UPDATE;
                IF NOT FOUND THEN
                    RETURN;
                END IF;
            ELSE
                PERFORM 1 FROM mitra_status s WHERE s.mitra_id = awaited FOR NO KEY UPDATE;
                is_waiting := false;
                IF hadir_take('chat_sessions', 'id', ARRAY[session]) IS NOT NULL THEN
                    awaited := NULL;
                    RAISE SQLSTATE 'HD001';
                END IF;
                SELECT c.status::text AS status, c.mitra_id, c.expires_at INTO held
                    FROM chat_sessions c WHERE c.id = session FOR NO KEY UPDATE;
                IF NOT FOUND THEN
                    RETURN;
                END IF;
            END IF;
            goal := tos[array_position(froms, held.status)];
            concerned := array_remove(ARRAY[held.mitra_id, taker], NULL);
            answer := CASE
                WHEN held.mitra_id = taker AND (held.status = ANY (repeats) OR goal = held.status) THEN 'unchanged'
                WHEN goal IS NULL THEN 'wrong_state'
                WHEN if_due AND coalesce(held.expires_at > clock_timestamp(), true) THEN 'unchanged'
                ELSE 'changed'
            END;
            -- Neither paying nor more time moves a load.
            EXIT WHEN answer <> 'changed' OR (taker IS NULL AND goal IN ('active', 'pending_payment'));
            is_waiting := true;
            IF taker IS NOT NULL THEN
                PERFORM 1 FROM mitras m WHERE m.id = taker FOR KEY SHARE;
                IF NOT FOUND THEN
                    answer := 'unknown_mitra';
                    EXIT;
                END IF;
            END IF;
            IF attempt = patience THEN
                PERFORM 1 FROM mitra_status s WHERE s.mitra_id = ANY (concerned) ORDER BY s.mitra_id FOR NO KEY UPDATE;
                EXIT;
            END IF;
            is_waiting := false;
            awaited := hadir_take('mitra_status', 'mitra_id', concerned);
            EXIT WHEN awaited IS NULL;
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
    IF answer = 'changed' AND taker IS NOT NULL THEN
        SELECT s.is_online AND m.is_active,
            (SELECT count(*) FROM chat_sessions c WHERE c.mitra_id = taker AND c.status IN ('active', 'pending_payment'))
                < coalesce(m.max_sessions, default_capacity)
            INTO is_present, has_room
            FROM mitras m JOIN mitra_status s ON s.mitra_id = m.id WHERE m.id = taker;
        answer := CASE WHEN NOT is_present THEN 'not_available' WHEN NOT has_room THEN 'capacity_exceeded' ELSE answer END;
    END IF;
    IF answer = 'changed' THEN
        UPDATE chat_sessions c SET
            status = goal,
            mitra_id = CASE WHEN frees THEN NULL ELSE coalesce(taker, c.mitra_id) END,
            expires_at = CASE
                WHEN frees THEN NULL
                WHEN runs_ms IS NOT NULL THEN hadir_time(clock_timestamp() + runs_ms * interval '1 millisecond')
                WHEN later_ms IS NOT NULL
                    THEN hadir_time(coalesce(c.expires_at, clock_timestamp()) + later_ms * interval '1 millisecond')
                ELSE c.expires_at
            END
            WHERE c.id = session;
    END IF;
    RETURN QUERY SELECT answer, r, m
        FROM hadir_sessions r LEFT JOIN hadir_mitras m ON m.id = ANY (concerned) WHERE r.id = session ORDER BY m.id;
END $$;

-- Takes part in no deadlock: what somebody holds, a session or its mitra, is left to the next time.
CREATE FUNCTION hadir_expire_sessions(at_most integer)
RETURNS TABLE (outcome text, session_row hadir_sessions, mitra_row hadir_mitras)
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '20ms' AS $$
DECLARE
    overdue uuid[];
    whose uuid[];
    held uuid[];
    expired uuid[];
BEGIN
    PERFORM set_config('hadir.actor', 'sweep', true), set_config('hadir.reason', 'time ran out', true);
    SELECT array_agg(l.id), array_agg(l.mitra_id) INTO overdue, whose FROM (
        SELECT c.id, c.mitra_id FROM chat_sessions c
        WHERE c.status IN ('searching', 'pending_payment', 'active') AND c.expires_at <= now()
        ORDER BY c.expires_at LIMIT at_most FOR NO KEY UPDATE SKIP LOCKED
    ) l;
    SELECT array_agg(l.mitra_id) INTO held FROM (
        SELECT s.mitra_id FROM mitra_status s WHERE s.mitra_id = ANY (whose) FOR NO KEY UPDATE SKIP LOCKED
    ) l;
    WITH changed AS (
        UPDATE chat_sessions c SET status = 'expired'
        WHERE c.id = ANY (overdue) AND (c.mitra_id IS NULL OR c.mitra_id = ANY (held))
        RETURNING c.id
    )
    SELECT array_agg(c.id) INTO expired FROM changed c;
    RETURN QUERY SELECT 'changed', r, m
        FROM hadir_sessions r LEFT JOIN hadir_mitras m ON m.id = r.mitra_id
        WHERE r.id = ANY (expired) ORDER BY r.expires_at, r.id;
-- As `hadir_take` says: none this time.
EXCEPTION WHEN lock_not_available THEN
    RETURN;
END $$;
