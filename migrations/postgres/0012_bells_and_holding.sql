-- Who changes a mitra waits for one row at a time and holds none meanwhile, as those do who change sessions; and many changed
-- rows ring a bell that asks for a look at recent changes, not for a comparison of everything.

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

CREATE OR REPLACE FUNCTION hadir_set_active(mitra uuid, active boolean, actor text, why text)
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

CREATE OR REPLACE FUNCTION hadir_put_mitra(mitra uuid, name text, capacity integer, actor text, why text)
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

-- One bell each up to a thousand rows, and this one for more.
CREATE FUNCTION hadir_ring_or(channel_schema text, payloads text[], for_all text) RETURNS void LANGUAGE plpgsql AS $$
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
-- given. Many sign-ins: `revoked:*`. Nodes of an older version do not know these words and find out with their next look.
CREATE OR REPLACE FUNCTION hadir_ring(channel_schema text, payloads text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM hadir_ring_or(channel_schema, payloads, CASE
        WHEN payloads[1] LIKE 'revoked:%' THEN 'revoked:*'
        ELSE 'many:' || (SELECT min(split_part(payload, ':', 2)::bigint) FROM unnest(payloads) AS payload)
    END);
END $$;

-- Many that are gone for good no look can find: everything is compared.
CREATE OR REPLACE FUNCTION hadir_mitras_deleted() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM hadir_ring_or(TG_TABLE_SCHEMA, array_agg(id || ':' || nextval('hadir_revision')), '*') FROM old_rows
        HAVING count(*) > 0;
    RETURN NULL;
END $$;
