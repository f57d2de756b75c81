//! Hadir, a WebSocket-native realtime presence server.
//!
//! Partners ("mitras") keep a socket open and their pings are the heartbeats; customers and dashboards hold sockets on
//! which the availability snapshot is pushed the moment it changes; REST answers the same questions. The store
//! (Postgres, or SQLite) is the durable truth; the mirror (Valkey, or this process) carries liveness and the snapshot
//! and can be thrown away and rebuilt from the store at any time.
//!
//! The map, from the inside out:
//!
//! - [`domain`] — the words and rules. Pure: no IO, no async, no clock.
//! - [`protocol`] — the wire: frames in and out, error and close codes. Knows neither sockets nor stores.
//! - [`config`] — every setting as one table; the typed and checked [`config::Config`].
//! - [`auth`] — from a token to the principal it speaks for; looks at signatures and claims only.
//! - [`telemetry`] — log lines and every metric, by name.
//! - [`store`] — the truth behind a trait; `postgres/` and `sqlite/` are the only places with SQL.
//! - [`mirror`] — liveness and the snapshot behind a trait; `valkey/` is the only place with a Valkey client.
//! - [`hub`] — this node's live state: who is here, which heartbeats wait, the newest frames. Never waits.
//! - [`replication`] — keeps mirror and sockets in step with the store; modes, trust, healing, the order of writes.
//! - [`cluster`] — what nodes ask each other.
//! - [`presence`] — the use cases: commands, admission, reads, the overview, auto-offline.
//! - [`sessions`] — chat sessions: their life in the store, and the one routine that ends those whose time ran out.
//! - [`tasks`] — the table of everything that runs by itself; holds no rules.
//! - [`gateway`] — the accept loop and the sockets: admission, the mitra's session, the watcher's session.
//! - [`api`] — REST, a file per resource, and the dashboard page.
//! - [`demo`] — a simulated fleet over real sockets, and two pages.
//! - [`lifecycle`] — starts tasks, tells them to stop and waits for them.
//! - [`app`] — the composition root: builds, starts and stops.
//! - [`cli`] — the commands; thin.
//!
//! The rule: an arrow points inwards only, edges never import each other or a back end, and only the composition root
//! names a concrete one. `tests/it/tidy.rs` holds the table and fails when it is broken.

pub mod api;
pub mod app;
pub mod auth;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod demo;
pub mod domain;
pub mod gateway;
pub mod hub;
pub mod lifecycle;
pub mod mirror;
pub mod presence;
pub mod protocol;
pub mod replication;
pub mod sessions;
pub mod store;
pub mod tasks;
pub mod telemetry;
