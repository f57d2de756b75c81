//! Valkey as operators meet it: its outages in the log, TLS, passwords, rights and sockets.

mod checking;
mod encrypted_topologies;
mod encryption;
mod foreign;
mod outage;
mod rights;
mod signing_in;
mod timeouts;

use std::time::Duration;

use hadir::{
    domain::NodeId,
    mirror::{
        Mirror, MirrorEvent, MirrorSettings,
        valkey::{ValkeyMirror, ValkeySettings, ValkeySetupError, ValkeyTls},
    },
    protocol::ControlMessage,
};
use tokio_util::task::TaskTracker;

use crate::support::eventually;

/// A mirror at an address, with these files of TLS.
async fn open(url: &str, tls: ValkeyTls) -> Result<ValkeyMirror, ValkeySetupError> {
    open_as(url, tls, None).await
}

/// The same in the clear, with a prefix.
async fn open_with_prefix(url: &str, prefix: &str) -> ValkeyMirror {
    open_as(url, ValkeyTls::default(), Some(prefix)).await.expect("a usable address")
}

async fn open_as(url: &str, tls: ValkeyTls, prefix: Option<&str>) -> Result<ValkeyMirror, ValkeySetupError> {
    let settings = ValkeySettings {
        url: url.to_owned(),
        tls,
        key_prefix: prefix.map(str::to_owned),
        command_timeout: Duration::from_millis(1_500),
        connect_timeout: Duration::from_secs(5),
        mirror: MirrorSettings {
            suspect_after: Duration::from_secs(60),
            snapshot_ttl: Duration::from_secs(60),
            snapshot_window: Duration::ZERO,
        },
        store: None,
        node: NodeId::new("n1"),
    };
    ValkeyMirror::connect(settings, &TaskTracker::new()).await
}

/// Expects that the mirror works, and closes it.
async fn works(what: &str, mirror: ValkeyMirror) {
    answers(what, &mirror).await;
    mirror.close().await;
}

/// Expects that both connections stand: commands are answered, and messages are heard.
async fn answers(what: &str, mirror: &ValkeyMirror) {
    eventually(what, async || mirror.open_epoch(0).await.ok()).await;
    let probe = ControlMessage::Probe { node: NodeId::new("n1"), nonce: 7 };
    eventually(what, async || {
        let mut events = mirror.events();
        mirror.tell(&probe).await.ok()?;
        let heard =
            async { while !matches!(events.recv().await.expect("the mirror lives"), MirrorEvent::Control(_)) {} };
        tokio::time::timeout(Duration::from_millis(50), heard).await.ok()
    })
    .await;
}

/// Expects that the mirror never connects, and says why in these words. Closes the mirror.
async fn fails_with(words: &str, mirror: ValkeyMirror) {
    let mut last = String::new();
    let began = std::time::Instant::now();
    while !last.contains(words) {
        assert!(began.elapsed() < crate::support::PATIENCE, "expected {words:?}, but it says {last:?}");
        last = mirror.tick().await.expect_err("a usable connection").to_string();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    mirror.close().await;
}
