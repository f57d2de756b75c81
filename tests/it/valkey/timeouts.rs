//! A peer that stops answering, as by a kernel that hangs: its calls are counted as timeouts, not as errors.

use std::time::Duration;

use hadir::mirror::Mirror;

use crate::support::{
    eventually, postgres,
    process::{Running, hadir},
    valkey::Server,
    world::SECRET,
};

#[tokio::test]
async fn calls_whose_deadline_passed_are_counted_as_timeouts() {
    let folder = tempfile::tempdir().unwrap();
    let (database, valkey) = (postgres::dedicated(), Server::start());
    let schema = database.schema().await;
    let mut command = hadir(&folder);
    command.env("DATABASE_URL", &schema.url).env("HADIR_DB_SCHEMA", &schema.name).env("VALKEY_URL", valkey.url(0));
    command.env("AUTH_JWT_SECRET", SECRET);
    let (_server, printed) = tokio::task::spawn_blocking(move || Running::start(command)).await.unwrap();
    let url = format!("{}/metrics", printed["internal_url"].as_str().unwrap());
    let counted = async |name: &str| {
        let metrics = reqwest::get(&url).await.ok()?.text().await.ok()?;
        metrics
            .lines()
            .any(|line| line.starts_with(name) && line.contains("result=\"timeout\"") && !line.ends_with(" 0"))
            .then_some(())
    };
    valkey.freeze();
    eventually("the mirror's", async || counted("hadir_mirror_commands_total").await).await;
    database.freeze();
    eventually("the store's", async || counted("hadir_store_queries_total").await).await;
    valkey.thaw();
    database.thaw();
}

#[tokio::test]
async fn a_refusal_is_no_timeout() {
    let server = Server::start();
    let mirror = super::open(&server.url(0), hadir::mirror::valkey::ValkeyTls::default()).await.unwrap();
    mirror.tick().await.unwrap();
    server.raw().ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let full = eventually("full", async || mirror.open_epoch(0).await.err()).await;
    assert!(!full.timed_out() && full.why().contains("is full"), "{full}");
    server.raw().ask(&["CONFIG", "SET", "maxmemory", "0"]);
    server.freeze();
    let frozen = tokio::time::timeout(Duration::from_secs(30), mirror.tick()).await.unwrap().unwrap_err();
    assert!(frozen.timed_out(), "{frozen}");
    server.thaw();
    mirror.close().await;
}
