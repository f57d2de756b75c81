-- Two roles for Hadir: one owns the tables and migrates them, the other one runs the server and cannot
-- change tables. Apply this with psql in Hadir's database, as a superuser:
--
--     psql -d hadir -v ON_ERROR_STOP=1 -f roles.sql
--
-- Other names: -v schema=shop -v owner=shop_owner -v server=shop_presence.
-- Apply it before the first `hadir migrate`, and again after each one: it grants rights on the tables
-- that exist. It gives no passwords: set them with \password hadir_owner and \password hadir_server.
--
-- `hadir migrate` connects as hadir_owner. The server connects as hadir_server, with
-- HADIR_MIGRATE=false. Both have HADIR_DB_SCHEMA=hadir.

\if :{?schema}
\else
  \set schema hadir
\endif
\if :{?owner}
\else
  \set owner hadir_owner
\endif
\if :{?server}
\else
  \set server hadir_server
\endif

SELECT format('CREATE ROLE %I LOGIN', name)
FROM (VALUES (:'owner'), (:'server')) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

CREATE SCHEMA IF NOT EXISTS :"schema" AUTHORIZATION :"owner";
REVOKE CREATE ON SCHEMA :"schema" FROM PUBLIC;
GRANT USAGE ON SCHEMA :"schema" TO :"server";

-- The list of docs/deployment.md. Leave the INSERT on mitras, chat_sessions and customers away if only
-- your backend creates mitras and chat sessions.
SELECT format('GRANT %s ON %s%I.%I TO %I', rights, kind, :'schema', name, :'server')
FROM (VALUES
  ('SELECT, INSERT, UPDATE', '', 'mitras'),
  ('SELECT, INSERT, UPDATE', '', 'chat_sessions'),
  ('SELECT, INSERT', '', 'customers'),
  ('SELECT, UPDATE', '', 'auth_sessions'),
  ('SELECT, UPDATE', '', 'hadir_meta'),
  ('SELECT, INSERT, UPDATE', '', 'mitra_status'),
  ('SELECT, INSERT, UPDATE', '', 'mitra_heartbeats'),
  ('SELECT, INSERT, UPDATE', '', 'hadir_sweep_pauses'),
  ('SELECT, INSERT, UPDATE, DELETE', '', 'presence_events'),
  ('SELECT, INSERT, UPDATE, DELETE', '', 'hadir_lone_nodes'),
  ('SELECT', '', 'hadir_mitras'),
  ('SELECT', '', 'hadir_sessions'),
  ('SELECT', '', '_sqlx_migrations'),
  ('USAGE, SELECT', 'SEQUENCE ', 'hadir_revision')
) AS wanted (rights, kind, name)
WHERE to_regclass(format('%I.%I', :'schema', name)) IS NOT NULL
\gexec
