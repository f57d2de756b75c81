-- no-transaction
-- For counting, and for the foreign key when a mitra is removed.
CREATE INDEX CONCURRENTLY IF NOT EXISTS chat_sessions_mitra ON chat_sessions (mitra_id, status) WHERE mitra_id IS NOT NULL;
