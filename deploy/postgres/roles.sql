-- Two roles for Hadir: `hadir_migrate` owns the tables and may change them, `hadir_server` serves and owns
-- nothing. Run it as an administrator of the database, before and after each `hadir migrate`; running it
-- again changes nothing.
--
--   psql "$ADMIN_URL" -v schema=hadir -f deploy/postgres/roles.sql
--   DATABASE_URL=postgres://hadir_migrate@db/app HADIR_DB_SCHEMA=hadir hadir migrate
--   psql "$ADMIN_URL" -v schema=hadir -f deploy/postgres/roles.sql
--   DATABASE_URL=postgres://hadir_server@db/app HADIR_DB_SCHEMA=hadir HADIR_MIGRATE=false hadir serve
--
-- The roles have no password: give them one with `\password hadir_migrate` and `\password hadir_server`.
-- Where Hadir adopts tables of a backend, make `hadir_migrate` a member of the role that owns them.

\set ON_ERROR_STOP on
\if :{?schema}
\else
  \set schema hadir
\endif

SELECT format('CREATE ROLE %I LOGIN', name)
FROM (VALUES ('hadir_migrate'), ('hadir_server')) AS wanted(name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

CREATE SCHEMA IF NOT EXISTS :"schema" AUTHORIZATION hadir_migrate;
GRANT USAGE, CREATE ON SCHEMA :"schema" TO hadir_migrate;
GRANT USAGE ON SCHEMA :"schema" TO hadir_server;

-- Tables that are there already; none before the first migration. INSERT on mitras, customers and
-- chat_sessions may go where only your backend creates those rows.
SELECT format('GRANT %s ON %I.%I TO hadir_server', rights, :'schema', name)
FROM (VALUES
    ('mitras', 'SELECT, INSERT, UPDATE'),
    ('customers', 'SELECT, INSERT'),
    ('chat_sessions', 'SELECT, INSERT, UPDATE'),
    ('auth_sessions', 'SELECT, UPDATE'),
    ('hadir_meta', 'SELECT, UPDATE'),
    ('mitra_status', 'SELECT, INSERT, UPDATE'),
    ('mitra_heartbeats', 'SELECT, INSERT, UPDATE'),
    ('hadir_sweep_pauses', 'SELECT, INSERT, UPDATE'),
    ('presence_events', 'SELECT, INSERT, UPDATE, DELETE'),
    ('hadir_lone_nodes', 'SELECT, INSERT, UPDATE, DELETE'),
    ('hadir_mitras', 'SELECT'),
    ('hadir_sessions', 'SELECT'),
    ('_sqlx_migrations', 'SELECT')
) AS wanted(name, rights)
WHERE to_regclass(format('%I.%I', :'schema', name)) IS NOT NULL \gexec

SELECT format('GRANT USAGE, SELECT ON SEQUENCE %I.%I TO hadir_server', :'schema', name)
FROM (VALUES ('hadir_revision')) AS wanted(name)
WHERE to_regclass(format('%I.%I', :'schema', name)) IS NOT NULL \gexec
