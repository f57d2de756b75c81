//! What tests stand on: the real product on port 0, private stores (or shared ones by environment), proxies in front of
//! them, clients of its sockets and its REST, fixtures. Nothing here is a mock.

pub mod authority;
pub mod client;
pub mod cluster;
pub mod environment;
pub mod node;
pub mod pgbouncer;
pub mod postgres;
pub mod process;
pub mod provider;
pub mod proxy;
pub mod rights;
pub mod sentinels;
pub mod valkey;
pub mod world;

use std::{
    future::Future,
    time::{Duration, Instant},
};

pub use client::{Client, Closed};
pub use node::Node;
pub use world::{Backend, World};

/// Longest wait for anything that is to happen. Not a figure: only a bound, so that a test that fails ends.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer; fails when there is none in time.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Each test on both back ends: SQLite with the in-process mirror, Postgres with Valkey.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::support::World::new($crate::support::Backend::Embedded).await).await;
            })*
        }
        mod clustered {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::support::World::new($crate::support::Backend::Clustered).await).await;
            })*
        }
    };
}
pub(crate) use on_both;

/// Each test on Postgres with Valkey only: faults of Valkey, several nodes, other programs.
macro_rules! on_cluster {
    ($($test:ident),* $(,)?) => {
        mod cluster_only {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::support::World::new($crate::support::Backend::Clustered).await).await;
            })*
        }
    };
}
pub(crate) use on_cluster;
