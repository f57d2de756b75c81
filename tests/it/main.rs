//! One binary with all integration tests: linking the crate once is what makes them quick to build.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails, and starts what it needs"
)]

mod api;
mod contract;
mod deploy;
mod gateway;
mod memory_model;
mod presence;
mod process;
mod proxies;
mod sessions;
mod start;
mod support;
mod tidy;
mod topologies;
mod valkey;
