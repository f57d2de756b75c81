//! Postgres that goes away, moves to another server, or is spoken to by TLS.

use std::{
    fs::File,
    path::Path,
    process::{Child, Stdio},
};

use futures_util::StreamExt;
use hadir::store::{
    Bell, Store,
    postgres::{PostgresStore, migrate},
};

use super::{
    cause,
    deployments::{command, hadir, said},
    faults::hasty,
    id, settings,
};
use crate::support::{PATIENCE, authority::Authority, eventually, postgres};

/// Ended with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn lines(log: &Path, words: &str) -> Vec<String> {
    let text = std::fs::read_to_string(log).expect("a log");
    text.lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
}

#[tokio::test]
async fn an_outage_is_one_warning_with_its_reason_and_one_line_when_it_ends() {
    let mut server = postgres::dedicated();
    let url = server.url("postgres").replace("postgres@", "postgres:swordfish@");
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let mut serving = command(&url, "logged", &["serve"], &folder);
    serving.stdout(Stdio::null()).stderr(File::create(&log).expect("a file"));
    let _running = Running(serving.spawn().expect("the binary runs"));
    eventually("it serves", async || lines(&log, "\"serving\"").pop()).await;
    for outage in 1..=2 {
        server.stop();
        eventually("the outage is told", async || {
            (lines(&log, "Postgres is unavailable").len() == outage).then_some(())
        })
        .await;
        // More than one routine meets it.
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        server.start();
        eventually("its end is told", async || (lines(&log, "available again").len() >= outage).then_some(())).await;
        let told = lines(&log, "Postgres is unavailable");
        assert_eq!(told.len(), outage, "once for each outage: {told:?}");
        assert_eq!(lines(&log, "Postgres is available again").len(), outage);
        let last = told.last().expect("a line");
        assert!(last.contains("WARN") && last.contains("\"why\":\""), "{last}");
    }
    assert!(lines(&log, "swordfish").is_empty(), "no secret");
}

#[tokio::test]
async fn a_replica_that_is_promoted_is_followed() {
    let (mut primary, replica) = postgres::replicated();
    let place = |server: &postgres::Server| server.url("").replace("postgres://postgres@", "").replace('/', "");
    let url = format!("postgres://postgres@{},{}/postgres", place(&replica), place(&primary));
    migrate(&settings(&url, "followed"), false).await.expect("migrated on the one that can be written");
    let store = PostgresStore::connect(hasty(&url, "followed")).expect("an address");
    let mut bells = store.bells().await.expect("a stream");
    eventually("a mitra is there", async || store.put_mitra(id(1), "Sari", None, &cause("")).await.ok()).await;
    let admin = sqlx::PgPool::connect_lazy(&replica.url("postgres")).expect("an address");
    eventually("the replica has it", async || {
        let sql = "SELECT count(*) FROM followed.mitras";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(&admin).await.ok().filter(|count| *count == 1)
    })
    .await;
    primary.kill();
    assert!(store.set_online(id(1), true, &cause("")).await.is_err(), "nothing can be written");
    let promoted: bool = sqlx::query_scalar("SELECT pg_promote()").fetch_one(&admin).await.expect("asked");
    assert!(promoted);
    eventually("the replica is written", async || store.set_online(id(1), true, &cause("")).await.ok()).await;
    let mut heard = async || loop {
        if let Some(Bell::Mitra { .. }) = bells.next().await {
            break;
        }
    };
    // Changes go on until the connection that listens has moved too.
    let changing = async {
        for step in 0.. {
            let _missed = store.set_online(id(1), step % 2 == 1, &cause("")).await;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, async {
        tokio::select! { () = heard() => {}, () = changing => {} }
    })
    .await
    .expect("notifications come from the new primary");
    store.close().await;
}

#[tokio::test]
async fn a_private_ca_is_believed_where_it_is_named_and_names_are_compared() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (certificate, key) = authority.issue("DNS:localhost");
    let mut server = postgres::dedicated();
    server.speak_tls(&certificate, &key);
    let check = |host: &str, mode: &str, ca: Option<&Authority>| {
        let root = ca.map(|ca| format!("&sslrootcert={}", ca.certificate().display())).unwrap_or_default();
        let url = server.url("postgres").replace("127.0.0.1", host);
        let output = hadir(&format!("{url}?sslmode={mode}{root}"), "encrypted", &["check"]);
        (output.status.success(), said(&output))
    };
    for (host, mode, ca, is_right) in [
        ("localhost", "verify-full", Some(&authority), true),
        ("127.0.0.1", "verify-full", Some(&authority), false),
        ("127.0.0.1", "verify-ca", Some(&authority), true),
        ("localhost", "verify-ca", Some(&other), false),
        ("localhost", "verify-full", None, false),
        ("127.0.0.1", "require", None, true),
    ] {
        let (right, said) = check(host, mode, ca);
        assert_eq!(right, is_right, "{host} {mode}: {said}");
        let words = if is_right { "the connection is encrypted" } else { "TLS failed" };
        assert!(said.contains(words) && !said.contains("panicked"), "{host} {mode}: {said}");
    }
    let (right, said) = check("127.0.0.1", "disable", None);
    assert!(right && said.contains("the connection is not encrypted"), "{said}");
}
