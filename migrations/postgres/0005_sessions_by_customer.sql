-- no-transaction
-- For the foreign key when a customer is removed.
CREATE INDEX CONCURRENTLY IF NOT EXISTS chat_sessions_customer ON chat_sessions (customer_id);
