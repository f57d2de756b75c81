//! The contract of [`hadir::mirror::Mirror`], one suite over both implementations, each test on an empty mirror of its
//! own. What only Valkey can show (exact keys, faults, other programs) is in `mirror/valkey.rs`,
//! `mirror/valkey_connections.rs` and `mirror/agreement.rs`.

mod agreement;
mod applying;
mod beating;
mod caution;
mod claiming;
mod foreign;
mod poisoned;
mod publishing;
mod reading;
mod valkey;
mod valkey_connections;

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use hadir::{
    domain::{Counts, Fence, MitraFacts, MitraId, MitraRow, NodeId, Snapshot, StatusReason},
    mirror::{
        Applied, Beat, Caution, Claimed, Mirror, MirrorEvent, MirrorSettings, Write,
        memory::MemoryMirror,
        valkey::{ValkeyMirror, ValkeySettings, ValkeyTls},
    },
    protocol::ControlMessage,
};
use tokio::sync::broadcast;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::support::{PATIENCE, rights::documented_user, valkey::Server};

/// Runs each test on both implementations.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::contract::mirror::Kind::Memory).await;
            })*
        }
        mod valkey {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::contract::mirror::Kind::Valkey).await;
            })*
        }
    };
}
use on_both;

/// Which implementation a test runs on.
#[derive(Clone, Copy)]
pub enum Kind {
    Memory,
    Valkey,
}

/// A mirror, and the server behind it where there is one.
pub struct Bench {
    pub mirror: Arc<dyn Mirror>,
    _server: Option<Server>,
}

impl Bench {
    /// Takes whoever is silent.
    pub async fn claimed(&self, silent_for: Duration, limit: u32) -> Vec<Claimed> {
        claimed(&*self.mirror, silent_for, limit).await
    }
}

/// Takes whoever is silent.
pub async fn claimed(mirror: &dyn Mirror, silent_for: Duration, limit: u32) -> Vec<Claimed> {
    mirror.claim_silent(silent_for, limit, &Caution::NONE).await.expect("claimed").claimed
}

impl std::ops::Deref for Bench {
    type Target = dyn Mirror;

    fn deref(&self) -> &Self::Target {
        &*self.mirror
    }
}

/// Nothing goes stale or waits by itself within a test.
pub fn calm() -> MirrorSettings {
    MirrorSettings {
        suspect_after: Duration::from_secs(60),
        snapshot_ttl: Duration::from_secs(60),
        snapshot_window: Duration::ZERO,
    }
}

/// Everything happens within a second.
pub fn hasty() -> MirrorSettings {
    MirrorSettings {
        suspect_after: Duration::from_millis(400),
        snapshot_ttl: Duration::from_millis(600),
        snapshot_window: Duration::from_millis(200),
    }
}

impl Kind {
    /// An empty, unseeded mirror.
    pub async fn empty(self, settings: MirrorSettings) -> Bench {
        match self {
            Self::Memory => Bench { mirror: Arc::new(MemoryMirror::new(settings)), _server: None },
            Self::Valkey => {
                let server = Server::start();
                // With the rights that the deployment page lists, and none besides.
                let url = documented_user(&server, 0);
                let mirror = Arc::new(connect(&url, None, settings).await);
                listening(&*mirror).await;
                Bench { mirror, _server: Some(server) }
            }
        }
    }

    /// An empty mirror with an epoch.
    pub async fn open(self, settings: MirrorSettings) -> Bench {
        let bench = self.empty(settings).await;
        bench.open_epoch(0).await.expect("opened");
        bench
    }
}

/// A mirror on a given server.
pub async fn connect(url: &str, prefix: Option<&str>, mirror: MirrorSettings) -> ValkeyMirror {
    connect_for(None, url, prefix, mirror).await
}

/// The same for the store with this identity.
pub async fn connect_for(store: Option<Uuid>, url: &str, prefix: Option<&str>, mirror: MirrorSettings) -> ValkeyMirror {
    let settings = ValkeySettings {
        url: url.to_owned(),
        tls: ValkeyTls::default(),
        key_prefix: prefix.map(str::to_owned),
        // Many tests share few cores: only who asks a frozen server waits for so long.
        command_timeout: Duration::from_millis(1_500),
        connect_timeout: Duration::from_secs(1),
        mirror,
        store,
        node: NodeId::new("n1"),
    };
    ValkeyMirror::connect(settings, &TaskTracker::new()).await.expect("a usable address")
}

/// Waits until the mirror hears what is told: a message told before it listens is lost, as pub/sub is.
pub async fn listening(mirror: &dyn Mirror) {
    let mut events = mirror.events();
    let probe = ControlMessage::Probe { node: NodeId::new("test"), nonce: 0 };
    let began = Instant::now();
    loop {
        // One that cannot be told yet, on a busy machine, is told again.
        let _told = mirror.tell(&probe).await;
        let back = heard(&mut events, "a probe", |event| matches!(event, MirrorEvent::Control(_)).then_some(()));
        if tokio::time::timeout(Duration::from_millis(50), back).await.is_ok() {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "still not: a probe that was told comes back");
    }
}

/// The n-th mitra.
pub fn id(n: u128) -> MitraId {
    MitraId(Uuid::from_u128(n))
}

/// The n-th mitra, online in its first go-online, with room for one session.
pub fn row(n: u128, revision: i64) -> MitraRow {
    MitraRow {
        id: id(n),
        facts: MitraFacts {
            online: true,
            active: true,
            sessions: 0,
            max_sessions: 1,
            fence: Fence { generation: 1, revision },
            online_epoch: 1,
        },
        heartbeat_age: None,
    }
}

/// This row with other facts.
pub fn with(mut row: MitraRow, change: impl FnOnce(&mut MitraFacts)) -> MitraRow {
    change(&mut row.facts);
    row
}

/// A write of somebody who heard the mitra just now and tells nobody.
pub fn write(row: MitraRow) -> Write {
    aged(row, Duration::ZERO)
}

/// A write of somebody who heard the mitra `age` ago.
pub fn aged(row: MitraRow, age: Duration) -> Write {
    Write { row, heartbeat_age: Some(age), announce: None }
}

/// A beat in the first go-online, heard now.
pub fn beat(n: u128) -> Beat {
    Beat { id: id(n), online_epoch: 1, at_ms: u64::MAX }
}

impl Bench {
    pub async fn applied(&self, row: MitraRow) -> Applied {
        self.apply(&[write(row)]).await.expect("applied").outcomes[0]
    }

    pub async fn announced(&self, row: MitraRow, reason: StatusReason) -> Applied {
        let write = Write { row, heartbeat_age: Some(Duration::ZERO), announce: Some(reason) };
        self.apply(&[write]).await.expect("applied").outcomes[0]
    }

    pub async fn counted(&self) -> Counts {
        self.counts().await.expect("counted").0
    }

    pub async fn now_ms(&self) -> u64 {
        self.tick().await.expect("ticked").now_ms
    }

    pub async fn snapshot(&self) -> Snapshot {
        self.tick().await.expect("ticked").snapshot.expect("seeded")
    }

    pub async fn age(&self, n: u128) -> Option<Duration> {
        self.entries(&[id(n)]).await.expect("read").of_each[0].as_ref().and_then(|entry| entry.heartbeat_age)
    }
}

/// Asks until the answer is yes; fails when it is not in time.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let began = Instant::now();
    while !ask().await {
        assert!(began.elapsed() < PATIENCE, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The next event of interest; fails when there is none in time.
pub async fn heard<T>(
    events: &mut broadcast::Receiver<MirrorEvent>,
    what: &str,
    mut wanted: impl FnMut(MirrorEvent) -> Option<T>,
) -> T {
    let listening = async {
        loop {
            if let Some(found) = wanted(events.recv().await.expect("the mirror lives")) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, listening).await.unwrap_or_else(|_| panic!("never heard: {what}"))
}
