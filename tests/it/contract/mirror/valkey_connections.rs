//! The connections to Valkey under faults injected for real: a server that is killed, frozen, or refuses the password.

use std::time::{Duration, Instant};

use hadir::{
    domain::NodeId,
    mirror::{
        Mirror, MirrorEvent,
        valkey::{ValkeyMirror, ValkeySettings, ValkeySetupError, ValkeyTls},
    },
    protocol::ControlMessage,
};
use tokio_util::task::TaskTracker;

use crate::support::{
    PATIENCE,
    valkey::{Server, free_port},
};

use super::{beat, calm, connect, eventually, hasty, heard, row, valkey::started, with, write};

#[tokio::test]
async fn a_server_that_is_away_at_start_is_found_when_it_comes() {
    let mut server = Server::start();
    let url = server.url(0);
    server.kill();
    let mirror = connect(&url, None, calm()).await;
    assert!(!mirror.is_connected());
    let mut events = mirror.events();
    let began = Instant::now();
    assert!(mirror.tick().await.is_err());
    assert!(began.elapsed() < PATIENCE, "a dead server was waited for without end");
    server.restart();
    // Two connections: which stands first is open.
    let (mut connected, mut missed) = (false, false);
    heard(&mut events, "both connections", |event| {
        connected |= matches!(event, MirrorEvent::Connected);
        missed |= matches!(event, MirrorEvent::Missed);
        (connected && missed).then_some(())
    })
    .await;
    assert!(mirror.is_connected());
    mirror.open_epoch(0).await.unwrap();
    mirror.close().await;
}

#[tokio::test]
async fn a_killed_server_is_noticed_and_its_return_is_told() {
    let (mut server, mirror) = started().await;
    eventually("subscribed", || async { server.raw().ask(&["PUBSUB", "NUMSUB", "hadir:control"]).list()[1] == "1" })
        .await;
    let mut events = mirror.events();
    server.kill();
    heard(&mut events, "Disconnected", |event| matches!(event, MirrorEvent::Disconnected).then_some(())).await;
    assert!(mirror.tick().await.is_err());
    server.restart();
    heard(&mut events, "Connected", |event| matches!(event, MirrorEvent::Connected).then_some(())).await;
    assert!(mirror.tick().await.unwrap().epoch.is_none(), "nothing was saved");
    eventually("subscribed again", || async {
        server.raw().ask(&["PUBSUB", "NUMSUB", "hadir:control"]).list()[1] == "1"
    })
    .await;
    mirror.close().await;
}

#[tokio::test]
async fn a_frozen_server_costs_one_timeout_and_its_thawed_writes_change_nothing() {
    let (server, mirror) = started().await;
    mirror.apply(&[write(row(1, 1)), write(row(2, 2))]).await.unwrap();
    let mut events = mirror.events();
    server.freeze();
    let began = Instant::now();
    // Offline is acknowledged by the store; the mirror hears the truth before and the lie after.
    assert!(mirror.apply(&[write(with(row(1, 5), |facts| facts.online = false))]).await.is_err());
    assert!(mirror.apply(&[write(row(1, 3))]).await.is_err());
    assert!(mirror.beat(&[beat(1)]).await.is_err());
    assert!(began.elapsed() < Duration::from_secs(30), "three commands of 1.5 s took {:?}", began.elapsed());
    // Steady asking must not hide that nothing is answered.
    let asking = async {
        loop {
            let _unanswered = mirror.tick().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = heard(&mut events, "Disconnected", |event| matches!(event, MirrorEvent::Disconnected).then_some(())) => {}
        () = asking => {}
    }
    server.thaw();
    heard(&mut events, "Connected", |event| matches!(event, MirrorEvent::Connected).then_some(())).await;
    eventually("answers again", || async { mirror.tick().await.is_ok() }).await;
    let counts = mirror.counts().await.unwrap().0;
    assert_eq!((counts.online, counts.available), (1, 1), "the older write or the beat listed it again");
    mirror.close().await;
}

#[tokio::test]
async fn a_cut_subscription_is_renewed_and_told() {
    let (server, mirror) = started().await;
    let mut events = mirror.events();
    let missed = |event| matches!(event, MirrorEvent::Missed).then_some(());
    eventually("subscribed", || async { server.raw().ask(&["PUBSUB", "NUMSUB", "hadir:control"]).list()[1] == "1" })
        .await;
    while events.try_recv().is_ok() {}
    server.raw().ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    heard(&mut events, "Missed", missed).await;
    mirror.resubscribe().await;
    heard(&mut events, "Missed", missed).await;
    let probe = ControlMessage::Probe { node: NodeId::new("n1"), nonce: 3 };
    mirror.tell(&probe).await.unwrap();
    heard(&mut events, "the probe", |event| {
        matches!(event, MirrorEvent::Control(heard) if heard == probe).then_some(())
    })
    .await;
    assert!(mirror.is_connected(), "commands went on all the time");
    mirror.close().await;
}

#[tokio::test]
async fn no_error_repeats_the_password() {
    let server = Server::with_password("correct-horse");
    let mirror = connect(&server.url(0), None, calm()).await;
    mirror.open_epoch(0).await.unwrap();
    // The password is changed under us, and every connection is cut.
    let mut raw = server.raw();
    raw.ask(&["CONFIG", "SET", "requirepass", "another-word"]);
    raw.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let began = Instant::now();
    let error = loop {
        match mirror.tick().await {
            Err(error) => break error.to_string(),
            Ok(_) => assert!(began.elapsed() < PATIENCE, "still not: a wrong password is refused"),
        }
    };
    assert!(!error.contains("correct-horse"), "{error}");
    let settings = ValkeySettings {
        url: server.url(0),
        tls: ValkeyTls::default(),
        key_prefix: None,
        command_timeout: Duration::from_millis(300),
        connect_timeout: Duration::from_secs(1),
        mirror: hasty(),
        store: None,
        node: NodeId::new("n1"),
    };
    assert!(!format!("{settings:?}").contains("correct-horse"));
    raw.ask(&["CONFIG", "SET", "requirepass", "correct-horse"]);
    eventually("back", || async { mirror.tick().await.is_ok() }).await;
    mirror.close().await;
}

#[tokio::test]
async fn a_cluster_needs_a_prefix_with_a_hash_tag() {
    let settings = |prefix: Option<&str>| ValkeySettings {
        url: format!("valkey-cluster://127.0.0.1:{}", free_port()),
        tls: ValkeyTls::default(),
        key_prefix: prefix.map(str::to_owned),
        command_timeout: Duration::from_millis(300),
        connect_timeout: Duration::from_secs(1),
        mirror: calm(),
        store: None,
        node: NodeId::new("n1"),
    };
    let refused = ValkeyMirror::connect(settings(Some("shop:")), &TaskTracker::new()).await.err();
    assert_eq!(refused, Some(ValkeySetupError::PrefixWithoutTag));
    for prefix in [None, Some("{shop}:")] {
        ValkeyMirror::connect(settings(prefix), &TaskTracker::new()).await.expect("accepted").close().await;
    }
}

#[tokio::test]
async fn closing_ends_every_task() {
    let server = Server::start();
    let tracker = TaskTracker::new();
    let settings = ValkeySettings {
        url: server.url(0),
        tls: ValkeyTls::default(),
        key_prefix: None,
        command_timeout: Duration::from_millis(300),
        connect_timeout: Duration::from_secs(1),
        mirror: calm(),
        store: None,
        node: NodeId::new("n1"),
    };
    let mirror = ValkeyMirror::connect(settings, &tracker).await.unwrap();
    assert!(!tracker.is_empty());
    mirror.close().await;
    tracker.close();
    tokio::time::timeout(PATIENCE, tracker.wait()).await.expect("tasks outlived close");
    eventually("no connection is left", || async {
        let clients = server.raw().ask(&["CLIENT", "LIST"]).text().unwrap();
        clients.lines().count() == 1
    })
    .await;
    assert!(mirror.tick().await.is_err(), "a closed mirror does not answer");
}
