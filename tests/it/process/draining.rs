//! One of two nodes is told to stop while its sockets live: nobody is missed, and nobody comes back all at once.
//!
//! `DRAIN_TEST_SOCKETS=2000` asks for more sockets; the run prints what it measured.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use hadir::domain::Role;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{task::JoinSet, time::sleep};
use uuid::Uuid;

use super::{Running, hadir, output::token_of};
use crate::support::{
    Client, Closed,
    client::{opening, with_header},
    postgres, valkey,
    world::SECRET,
};

const DRAIN: Duration = Duration::from_secs(5);
const SUSPECT: Duration = Duration::from_secs(15);
/// How often the published count is read.
const SAMPLE: Duration = Duration::from_millis(100);
/// Parts of the drain in which the promised moments are counted.
const PARTS: usize = 5;

fn sockets() -> usize {
    std::env::var("DRAIN_TEST_SOCKETS").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

fn node(folder: &TempDir, schema: &postgres::Schema, valkey: &valkey::Server) -> Command {
    let mut command = hadir(folder);
    command
        .env("DATABASE_URL", &schema.url)
        .env("HADIR_DB_SCHEMA", &schema.name)
        .env("VALKEY_URL", valkey.url(0))
        .env("AUTH_JWT_SECRET", SECRET)
        .env("DRAIN_SECONDS", DRAIN.as_secs().to_string())
        .env("HEARTBEAT_INTERVAL_SECONDS", "5")
        .env("HEARTBEAT_SUSPECT_SECONDS", SUSPECT.as_secs().to_string());
    command
}

fn address(printed: &Value) -> SocketAddr {
    printed["public_url"].as_str().expect("a URL").strip_prefix("http://").expect("a URL").parse().expect("an address")
}

/// What one client went through.
#[derive(Debug)]
struct Moved {
    /// What the node promised, milliseconds.
    after_ms: u64,
    /// From the promise to the close.
    closed_after: Duration,
    closed: Closed,
    /// From the close to the welcome of the other node.
    away: Duration,
}

/// Dials until it is let in: a node with all its places taken, or none that listens, is asked again.
async fn opened(at: impl Fn() -> SocketAddr, path: &str, token: &str) -> Client {
    loop {
        let request = with_header(opening(at(), path), "authorization", &format!("Bearer {token}"));
        match Client::open(at(), request).await {
            Ok(mut socket) => {
                socket.frame("welcome").await;
                return socket;
            }
            Err(_) => sleep(SAMPLE).await,
        }
    }
}

/// A client as docs/protocol.md asks for: it stays until it is closed, and dials again at once. Where its first node is no
/// more, a load balancer leads it to the other.
async fn client(
    path: &'static str,
    token: String,
    port: Arc<AtomicU16>,
    online: bool,
    all_moved: Arc<AtomicBool>,
) -> Moved {
    let at = || SocketAddr::from(([127, 0, 0, 1], port.load(Relaxed)));
    let mut socket = opened(at, path, &token).await;
    if online {
        socket.command("online").await;
    }
    let promise = socket.until("a promise", |frame| frame["type"] == "reconnect").await;
    let promised = Instant::now();
    let closed = socket.closed().await;
    let closed_at = Instant::now();
    let mut socket = opened(at, path, &token).await;
    let moved = Moved {
        after_ms: promise["after_ms"].as_u64().expect("a number"),
        closed_after: closed_at - promised,
        closed,
        away: closed_at.elapsed(),
    };
    // Answers pings until everybody has been watched for long enough.
    while !all_moved.load(Relaxed) {
        let _quiet = tokio::time::timeout(SAMPLE, socket.ws.next()).await;
    }
    moved
}

/// The count that the mirror publishes.
fn published(valkey: &mut valkey::Raw) -> Option<u64> {
    let snapshot: Value = serde_json::from_str(&valkey.ask(&["GET", "availability:snapshot"]).text()?).ok()?;
    snapshot["available"].as_u64()
}

async fn mitras(internal: &str, count: usize) -> Vec<Uuid> {
    let (client, service) = (reqwest::Client::new(), token_of(Role::Service, Uuid::new_v4()));
    stream::iter(0..count)
        .map(|_| async {
            let id = Uuid::new_v4();
            let put = client.put(format!("{internal}/internal/mitras/{id}")).bearer_auth(&service);
            let answer = put.json(&json!({ "display_name": "Sari" })).send().await.expect("an answer");
            assert!(answer.status().is_success(), "{answer:?}");
            id
        })
        .buffer_unordered(8)
        .collect()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_hands_its_sockets_over_and_the_published_count_never_dips() {
    let (folder, schema, valkey) = (tempfile::tempdir().unwrap(), postgres::schema().await, valkey::Server::start());
    let (leaving, leaving_said) = Running::start(node(&folder, &schema, &valkey));
    let (_staying, staying_said) = Running::start(node(&folder, &schema, &valkey));
    let (first, second) = (address(&leaving_said), address(&staying_said));
    let count = sockets();
    let ids = mitras(leaving_said["internal_url"].as_str().unwrap(), count * 3 / 4).await;
    let (port, all_moved) = (Arc::new(AtomicU16::new(first.port())), Arc::new(AtomicBool::new(false)));
    let mut fleet = JoinSet::new();
    for number in 0..count {
        let (path, token) = match ids.get(number) {
            Some(id) => ("/ws/mitra", token_of(Role::Mitra, *id)),
            None => ("/ws/availability", token_of(Role::Customer, Uuid::new_v4())),
        };
        let is_mitra = number < ids.len();
        fleet.spawn(client(path, token, Arc::clone(&port), is_mitra, Arc::clone(&all_moved)));
    }
    let mut raw = valkey.raw();
    let all = ids.len() as u64;
    loop {
        match published(&mut raw) {
            Some(available) if available == all => break,
            _ => sleep(SAMPLE).await,
        }
    }
    let customer = token_of(Role::Customer, Uuid::new_v4());
    let mut watcher = Client::dial(second, "/ws/availability", &customer).await;
    watcher.sees(all).await;

    // New connections are led to the node that stays, as a load balancer does that asks `/readyz`.
    port.store(second.port(), Relaxed);
    leaving.signal(Signal::TERM);
    let told = Instant::now();
    let sampling = tokio::spawn(async move {
        let (mut seen, mut samples) = (BTreeSet::new(), 0);
        // Whoever was lost for good would be missed by then.
        while told.elapsed() < DRAIN + SUSPECT + Duration::from_secs(3) {
            // No count at all would be a dip too.
            seen.insert(published(&mut raw).unwrap_or(0));
            samples += 1;
            sleep(SAMPLE).await;
        }
        (seen, samples)
    });
    let (ended, _) = leaving.ended().await;
    assert!(ended.success(), "{ended}");
    let stopped_after = told.elapsed();
    let (seen, samples) = sampling.await.expect("sampled");
    assert_eq!(seen, BTreeSet::from([all]), "the published count in {samples} samples");
    watcher.is_alive().await;

    all_moved.store(true, Relaxed);
    let moved = fleet.join_all().await;
    assert_eq!(moved.len(), count);
    let mut parts = [0_usize; PARTS];
    for client in &moved {
        assert_eq!(client.closed, Closed::new(1012, "restart"));
        assert!(client.closed_after.as_millis() as u64 + 100 >= client.after_ms, "closed before its time: {client:?}");
        assert!(client.away < SUSPECT, "{client:?}");
        parts[client.after_ms as usize * PARTS / DRAIN.as_millis() as usize] += 1;
    }
    // Six standard deviations of a fair share.
    let fair = count as f64 / PARTS as f64;
    let most = fair + 6.0 * fair.sqrt();
    assert!(parts.iter().all(|part| (*part as f64) < most), "{parts:?} of {count}, at most {most:.0} each");
    let mut away: Vec<Duration> = moved.iter().map(|client| client.away).collect();
    away.sort();
    eprintln!(
        "{count} sockets: stopped after {stopped_after:.1?}; away p50 {:.0?}, p99 {:.0?}, longest {:.0?}; \
         promised in fifths of the drain {parts:?}; {samples} samples, count {seen:?}",
        away[count / 2],
        away[count * 99 / 100],
        away[count - 1],
    );
}
