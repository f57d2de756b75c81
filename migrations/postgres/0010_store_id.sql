-- What tells this database from every other one, chosen once. A mirror carries it, so that two databases that share a Valkey by
-- mistake do not offer each other's mitras.
ALTER TABLE hadir_meta ADD COLUMN store_id uuid NOT NULL
    DEFAULT md5(random()::text || clock_timestamp()::text || txid_current()::text || pg_backend_pid()::text)::uuid;
