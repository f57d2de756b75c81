//! Migrating a schema in which a backend's own tables are, with their rows.
