-- no-transaction
-- Those that are not over: which expires next, and how many there are.
CREATE INDEX CONCURRENTLY IF NOT EXISTS chat_sessions_expiry ON chat_sessions (expires_at, status)
    WHERE status IN ('searching', 'pending_payment', 'active');
