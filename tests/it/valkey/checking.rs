//! `hadir check` against real servers on which a node would fail, each in a state of its own.

use std::process::Output;

use crate::support::{
    postgres::{self, Schema},
    process::hadir,
    rights::documented_user,
    valkey::{Answer, Raw, Server, free_port},
    world::SECRET,
};

/// What it says of the mirror, and whether it was content.
struct Checked {
    is_well: bool,
    lines: Vec<String>,
}

impl Checked {
    /// Expects exactly these misfits, each by some of its words.
    fn names(&self, misfits: &[&str]) {
        assert!(!self.is_well, "{:?}", self.lines);
        assert_eq!(self.lines.len(), misfits.len(), "{:?}", self.lines);
        for misfit in misfits {
            let found = self.lines.iter().any(|line| line.starts_with("wrong mirror: ") && line.contains(misfit));
            assert!(found, "{misfit:?} is not among {:?}", self.lines);
        }
        let debug = ["Os {", "kind:", "Error:", "Some(", "{ "];
        assert!(!self.lines.iter().any(|line| debug.iter().any(|part| line.contains(part))), "{:?}", self.lines);
    }
}

async fn check(schema: &Schema, url: &str) -> Checked {
    let folder = tempfile::tempdir().unwrap();
    let mut command = hadir(&folder);
    command.env("DATABASE_URL", &schema.url).env("HADIR_DB_SCHEMA", &schema.name).env("VALKEY_URL", url);
    command.env("AUTH_JWT_SECRET", SECRET).env("HADIR_MIRROR_CONNECT_TIMEOUT_MS", "5000").arg("check");
    let output: Output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|line| line.contains(" mirror: ")).map(str::to_owned).collect();
    Checked { is_well: output.status.success(), lines }
}

#[tokio::test]
async fn a_server_that_fits_is_named_and_left_as_it_was() {
    let schema = postgres::schema().await;
    let server = Server::start();
    let checked = check(&schema, &server.url(0)).await;
    assert!(checked.is_well, "{:?}", checked.lines);
    let [line] = &*checked.lines else { panic!("{:?}", checked.lines) };
    assert!(
        ["Valkey", "Redis"].iter().any(|name| line.starts_with(&format!("ok    mirror: {name} ")))
            && line.contains(&server.address().to_string()),
        "{line}"
    );
    assert_eq!(server.raw().ask(&["DBSIZE"]).number(), 0, "its keys are removed");
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_told_apart_by_its_reason() {
    let schema = postgres::schema().await;
    let server = Server::start();
    let mut raw = server.raw();
    let set = |raw: &mut Raw, name: &str, value: &str| {
        assert_eq!(raw.ask(&["CONFIG", "SET", name, value]).text().unwrap(), "OK");
    };

    set(&mut raw, "maxmemory", "1");
    check(&schema, &server.url(0)).await.names(&["is full: it has reached maxmemory"]);
    set(&mut raw, "maxmemory", "0");

    set(&mut raw, "min-replicas-to-write", "1");
    check(&schema, &server.url(0)).await.names(&["too few replicas"]);
    set(&mut raw, "min-replicas-to-write", "0");

    let replica = server.replica();
    let address = replica.address().to_string();
    let checked = check(&schema, &replica.url(0)).await;
    checked.names(&["is a replica and takes no writes"]);
    assert!(checked.lines[0].contains(&address), "{:?}", checked.lines);
}

#[tokio::test]
async fn an_eviction_policy_that_will_take_keys_is_named() {
    let schema = postgres::schema().await;
    let server = Server::start();
    let mut raw = server.raw();
    raw.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    assert!(check(&schema, &server.url(0)).await.is_well, "without a bound nothing is evicted");
    raw.ask(&["CONFIG", "SET", "maxmemory", "200mb"]);
    check(&schema, &server.url(0)).await.names(&["maxmemory-policy allkeys-lru"]);
}

#[tokio::test]
async fn every_right_that_is_missing_is_named_at_once() {
    let schema = postgres::schema().await;
    let server = Server::start();
    let mut raw = server.raw();
    let url = documented_user(&server, 0);
    assert!(check(&schema, &url).await.is_well);
    let refused = |raw: &mut Raw| raw.ask(&["ACL", "LOG"]);
    assert_eq!(refused(&mut raw), Answer::List(Vec::new()), "the list of rights lacks one");

    raw.ask(&["ACL", "SETUSER", "hadir", "resetchannels"]);
    let channels = "availability:events, hadir:control";
    let (publish, subscribe) = (format!("may not publish to {channels}"), format!("may not subscribe to {channels}"));
    check(&schema, &url).await.names(&[&publish, &subscribe]);

    raw.ask(&["ACL", "SETUSER", "hadir", "&*", "-zadd", "-info"]);
    check(&schema, &url).await.names(&["may not run ZADD, INFO at"]);

    raw.ask(&["ACL", "SETUSER", "hadir", "+zadd", "+info", "resetkeys", "~hadir:*", "~mitra:*"]);
    raw.ask(&["CONFIG", "SET", "maxmemory", "200mb"]);
    raw.ask(&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]);
    let keys = "may not use the keys availability:snapshot, mitras:online, mitras:deactivated, mitras:liveness, \
                mitras:available at";
    check(&schema, &url).await.names(&[keys, "maxmemory-policy volatile-ttl"]);

    raw.ask(&["ACL", "SETUSER", "hadir", "-evalsha"]);
    check(&schema, &url).await.names(&["lacks a right"]);
}

#[tokio::test]
async fn a_server_that_is_away_is_named_by_host_and_port() {
    let schema = postgres::schema().await;
    let port = free_port();
    check(&schema, &format!("valkey://127.0.0.1:{port}"))
        .await
        .names(&[&format!("the connection is refused at 127.0.0.1:{port}")]);
    check(&schema, "valkey://nowhere.invalid").await.names(&["the host in nowhere.invalid:6379 has no address"]);
}
