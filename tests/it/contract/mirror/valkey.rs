//! What only Valkey can show: exact names and forms, and what other programs do to its keys.

use std::{collections::BTreeSet, time::Duration};

use hadir::{
    domain::{Mode, NodeId, NodeRecord, SocketCounts},
    mirror::{Caution, Mirror, MirrorEvent, Refused, Restraint, valkey::ValkeyMirror},
    protocol::ControlMessage,
};

use crate::support::valkey::{Answer, Raw, Server};

use super::{aged, beat, calm, claimed, connect, eventually, heard, id, listening, row, with, write};

pub(super) async fn started() -> (Server, ValkeyMirror) {
    let server = Server::start();
    let mirror = connect(&server.url(0), None, calm()).await;
    listening(&mirror).await;
    mirror.open_epoch(0).await.expect("opened");
    (server, mirror)
}

fn keys(raw: &mut Raw) -> BTreeSet<String> {
    raw.ask(&["KEYS", "*"]).list().into_iter().collect()
}

fn json(text: Option<String>) -> serde_json::Value {
    serde_json::from_str(&text.expect("there")).expect("JSON")
}

#[tokio::test]
async fn the_keys_have_exactly_the_promised_names_types_and_contents() {
    let (server, mirror) = started().await;
    let busy = with(row(2, 8), |facts| (facts.sessions, facts.max_sessions) = (2, 2));
    let gone = with(row(3, 9), |facts| (facts.online, facts.active) = (false, false));
    let paying = with(row(4, 10), |facts| (facts.online, facts.sessions) = (false, 1));
    mirror.apply(&[write(row(1, 7)), write(busy), write(gone), write(paying)]).await.unwrap();
    let (one, two, three, four) = (id(1).to_string(), id(2).to_string(), id(3).to_string(), id(4).to_string());

    let mut raw = server.raw();
    let heartbeat = |id: &str| format!("mitra:heartbeat:{id}");
    let capacity = |id: &str| format!("mitra:capacity:{id}");
    let expected: BTreeSet<String> = [
        "mitras:online",
        "mitras:deactivated",
        "mitras:liveness",
        "mitras:available",
        "availability:snapshot",
        "hadir:epoch",
        "hadir:published",
        "hadir:history",
        "hadir:mitras",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([heartbeat(&one), heartbeat(&two), capacity(&one), capacity(&two), capacity(&four)])
    .collect();
    assert_eq!(keys(&mut raw), expected);

    for (key, kind) in [
        ("mitras:online", "set"),
        ("mitras:deactivated", "set"),
        ("mitras:liveness", "zset"),
        ("mitras:available", "zset"),
        ("availability:snapshot", "string"),
        ("hadir:epoch", "string"),
        ("hadir:published", "hash"),
        ("hadir:history", "list"),
        ("hadir:mitras", "hash"),
        (&heartbeat(&one), "string"),
        (&capacity(&one), "string"),
    ] {
        assert_eq!(raw.ask(&["TYPE", key]), Answer::Text(kind.to_owned()), "{key}");
    }
    let online: BTreeSet<String> = raw.ask(&["SMEMBERS", "mitras:online"]).list().into_iter().collect();
    assert_eq!(online, BTreeSet::from([one.clone(), two.clone()]));
    assert_eq!(raw.ask(&["SMEMBERS", "mitras:deactivated"]).list(), [three]);
    assert_eq!(raw.ask(&["ZRANGE", "mitras:available", "0", "-1"]).list(), std::slice::from_ref(&one));
    assert_eq!(raw.ask(&["GET", &capacity(&two)]).text().as_deref(), Some("2"));
    assert_eq!(raw.ask(&["GET", &capacity(&one)]).text().as_deref(), Some("0"));
    let beat_at = raw.ask(&["GET", &heartbeat(&one)]).text().unwrap();
    assert_eq!((beat_at.len(), &beat_at[10..11], &beat_at[19..20], &beat_at[23..]), (24, "T", ".", "Z"));

    let snapshot = raw.ask(&["GET", "availability:snapshot"]).text().unwrap();
    let epoch = raw.ask(&["GET", "hadir:epoch"]).text().unwrap();
    let as_of = json(Some(snapshot.clone()))["as_of"].as_str().unwrap().to_owned();
    assert_eq!(
        snapshot,
        format!(
            r#"{{"type":"availability","epoch":"{epoch}","version":2,"any":true,"available":1,"as_of":"{as_of}","source":"valkey","stale":false}}"#
        )
    );
    let life = raw.ask(&["PTTL", "availability:snapshot"]).number();
    assert!((50_000..=60_000).contains(&life), "lives for {life} ms");
    mirror.close().await;
}

#[tokio::test]
async fn every_leaving_takes_its_heartbeat_with_it() {
    let (server, mirror) = started().await;
    let mut raw = server.raw();
    mirror.apply(&[write(row(1, 1)), aged(row(2, 1), Duration::from_secs(90)), write(row(3, 1))]).await.unwrap();
    mirror.apply(&[write(with(row(1, 2), |facts| facts.online = false))]).await.unwrap();
    claimed(&mirror, Duration::from_secs(90), 1).await;
    mirror.forget(&[(id(3), row(3, 1).fence)]).await.unwrap();
    let left: Vec<String> = keys(&mut raw).into_iter().filter(|key| !key.starts_with("hadir:")).collect();
    assert_eq!(left, ["availability:snapshot"]);
    mirror.close().await;
}

#[tokio::test]
async fn a_prefix_stands_before_every_key_and_channel_and_a_database_in_channels_only() {
    let server = Server::start();
    let mirror = connect(&server.url(3), Some("shop:"), calm()).await;
    listening(&mirror).await;
    let mut watched = server.raw();
    watched.ask(&["SUBSCRIBE", "shop:db3:availability:events"]);
    let mut told = server.raw();
    told.ask(&["SUBSCRIBE", "shop:db3:hadir:control"]);
    let mut events = mirror.events();

    mirror.apply(&[write(row(1, 1))]).await.unwrap();
    mirror.open_epoch(0).await.unwrap();
    let record =
        NodeRecord { node_id: NodeId::new("n1"), sockets: SocketCounts::default(), mode: Mode::Live, seen_ms: 0 };
    mirror.report_node(&record).await.unwrap();
    let mut raw = server.raw();
    assert!(keys(&mut raw).is_empty(), "database 0 is not ours");
    raw.ask(&["SELECT", "3"]);
    let names = keys(&mut raw);
    assert!(names.iter().all(|key| key.starts_with("shop:")), "{names:?}");
    assert!(names.contains("shop:hadir:nodes") && names.contains(&format!("shop:mitra:heartbeat:{}", id(1))));

    let published = json(watched.next().list().pop());
    assert_eq!((&published["version"], &published["available"]), (&1.into(), &1.into()));
    assert_eq!(published, json(raw.ask(&["GET", "shop:availability:snapshot"]).text()));
    mirror.tell(&ControlMessage::Probe { node: NodeId::new("n1"), nonce: 1 }).await.unwrap();
    assert_eq!(json(told.next().list().pop()), serde_json::json!({"type": "probe", "node": "n1", "nonce": 1}));
    heard(&mut events, "a probe", |event| matches!(event, MirrorEvent::Control(_)).then_some(())).await;
    assert!(mirror.beat(&[beat(1)]).await.unwrap().refused.is_empty(), "ids are cut out of keys behind the prefix");
    mirror.close().await;
}

#[tokio::test]
async fn foreign_messages_are_skipped() {
    let (server, mirror) = started().await;
    let epoch = mirror.open_epoch(0).await.unwrap();
    let mut events = mirror.events();
    let mut raw = server.raw();
    let probe = ControlMessage::Probe { node: NodeId::new("n1"), nonce: 7 };
    let ours = |event| match event {
        MirrorEvent::Control(message) => Some(message),
        // Its own first one may still be on its way.
        MirrorEvent::Snapshot(snapshot) if snapshot.epoch != epoch => panic!("took this for a snapshot: {snapshot:?}"),
        _ => None,
    };
    loop {
        for channel in ["availability:events", "hadir:control"] {
            raw.ask(&["PUBLISH", channel, "what?"]);
            raw.ask(&["PUBLISH", channel, r#"{"type":"surprise","version":1}"#]);
        }
        mirror.tell(&probe).await.unwrap();
        let wait = heard(&mut events, "the probe", ours);
        if let Ok(message) = tokio::time::timeout(Duration::from_millis(100), wait).await {
            assert_eq!(message, probe);
            break;
        }
    }
    mirror.close().await;
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_is_told_them_again() {
    let (server, mirror) = started().await;
    mirror.apply(&[write(row(1, 1))]).await.unwrap();
    server.raw().ask(&["SCRIPT", "FLUSH"]);
    mirror.apply(&[write(row(2, 2))]).await.unwrap();
    assert_eq!(mirror.counts().await.unwrap().0.available, 2);
    mirror.close().await;
}

#[tokio::test]
async fn an_emptied_mirror_has_no_epoch_and_a_new_one_after_it_was_seeded() {
    let (server, mirror) = started().await;
    mirror.apply(&[write(row(1, 1))]).await.unwrap();
    let before = mirror.open_epoch(0).await.unwrap();
    server.raw().ask(&["FLUSHALL"]);
    assert!(mirror.tick().await.unwrap().epoch.is_none());
    let report = mirror.beat(&[beat(1)]).await.unwrap();
    assert!(report.pulse.epoch.is_none());
    assert_eq!(report.refused[0].why, Refused::Unknown);
    mirror.apply(&[write(row(1, 1))]).await.unwrap();
    let after = mirror.open_epoch(0).await.unwrap();
    assert_ne!(after, before);
    let snapshot = mirror.tick().await.unwrap().snapshot.unwrap();
    assert_eq!((snapshot.epoch, snapshot.version, snapshot.available), (after, 1, 1));
    mirror.close().await;
}

#[tokio::test]
async fn an_evicted_or_foreign_change_ends_the_epoch() {
    let (server, mirror) = started().await;
    let mut raw = server.raw();
    let id = id(1).to_string();
    let changes: [&[&str]; 7] = [
        &["DEL", "mitras:liveness"],
        &["DEL", "mitras:available"],
        &["DEL", "mitras:online"],
        &["DEL", "hadir:mitras"],
        &["DEL", "hadir:published"],
        &["SREM", "mitras:online", &id],
        &["ZADD", "mitras:available", "1", "somebody"],
    ];
    for change in changes {
        mirror.apply(&[write(row(1, 1)), write(row(2, 2))]).await.unwrap();
        mirror.open_epoch(0).await.unwrap();
        assert!(mirror.tick().await.unwrap().epoch.is_some());
        raw.ask(change);
        assert!(mirror.tick().await.unwrap().epoch.is_none(), "{change:?} went unnoticed");
        raw.ask(&["ZREM", "mitras:available", "somebody"]);
    }
    mirror.close().await;
}

#[tokio::test]
async fn what_another_program_damaged_is_repaired_by_the_same_rows() {
    let (server, mirror) = started().await;
    let mut raw = server.raw();
    let rows = [
        write(row(1, 1)),
        write(with(row(2, 2), |facts| facts.sessions = 1)),
        write(with(row(3, 3), |facts| facts.online = false)),
    ];
    mirror.apply(&rows).await.unwrap();
    let sound = keys(&mut raw);
    let (one, two, three) = (id(1).to_string(), id(2).to_string(), id(3).to_string());
    raw.ask(&["SREM", "mitras:online", &one]);
    raw.ask(&["DEL", &format!("mitra:heartbeat:{one}")]);
    raw.ask(&["ZADD", "mitras:available", "1", &two]);
    raw.ask(&["SET", &format!("mitra:capacity:{two}"), "9"]);
    raw.ask(&["SADD", "mitras:online", &three]);
    raw.ask(&["SADD", "mitras:deactivated", &three]);
    raw.ask(&["SET", &format!("mitra:heartbeat:{three}"), "never"]);
    let outcomes = mirror.apply(&rows).await.unwrap().outcomes;
    assert_eq!(outcomes, [hadir::mirror::Applied::Changed; 3]);
    mirror.open_epoch(0).await.unwrap();
    assert_eq!(keys(&mut raw), sound.union(&BTreeSet::from(["mitras:online".to_owned()])).cloned().collect());
    let counts = mirror.counts().await.unwrap().0;
    assert_eq!((counts.online, counts.available, counts.busy, counts.deactivated), (2, 1, 1, 0));
    assert_eq!(mirror.apply(&rows).await.unwrap().outcomes, [hadir::mirror::Applied::Same; 3]);

    // Strangers are found and can be removed.
    let stranger = id(77);
    raw.ask(&["SADD", "mitras:online", &stranger.to_string()]);
    raw.ask(&["ZADD", "mitras:available", "5", &stranger.to_string()]);
    let (mut known, mut cursor) = (BTreeSet::new(), 0);
    loop {
        let (next, page) = mirror.known(cursor).await.unwrap();
        known.extend(page);
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    assert!(known.contains(&stranger));
    let entry = mirror.entries(&[stranger]).await.unwrap().of_each[0].clone().expect("known, if only from the sets");
    assert_eq!(mirror.forget(&[(stranger, entry.fence)]).await.unwrap(), 1);
    assert_eq!(mirror.counts().await.unwrap().0.online, 2);
    mirror.close().await;
}

#[tokio::test]
async fn a_clock_that_was_set_back_freezes_neither_window_nor_history() {
    let server = Server::start();
    let settings = hadir::mirror::MirrorSettings { snapshot_window: Duration::from_secs(3_600), ..calm() };
    let mirror = connect(&server.url(0), None, settings).await;
    mirror.open_epoch(0).await.unwrap();
    mirror.apply(&[write(row(1, 1))]).await.unwrap();
    let waiting = mirror.apply(&[write(row(2, 2))]).await.unwrap().pulse;
    assert!(waiting.due_in.is_some());
    // The other way round: what was written down lies an hour ahead.
    let ahead = (waiting.now_ms + 3_600_000).to_string();
    server.raw().ask(&["HSET", "hadir:published", "published_ms", &ahead, "written_ms", &ahead, "history_ms", &ahead]);
    let pulse = mirror.tick().await.unwrap();
    assert_eq!((pulse.due_in, pulse.snapshot.unwrap().available), (None, 2));
    assert_eq!(mirror.history().await.unwrap().len(), 2);
    mirror.close().await;
}

#[tokio::test]
async fn a_mirror_that_was_emptied_while_it_was_seeded_is_not_opened() {
    let server = Server::start();
    let mirror = connect(&server.url(0), None, calm()).await;
    mirror.apply(&[write(row(1, 1)), write(row(2, 2)), write(row(3, 3))]).await.unwrap();
    server.raw().ask(&["FLUSHALL"]);
    mirror.apply(&[write(row(4, 4))]).await.unwrap();
    assert!(mirror.open_epoch(4).await.is_err(), "three of four are missing");
    assert!(mirror.tick().await.unwrap().epoch.is_none());
    mirror.apply(&[write(row(1, 1)), write(row(2, 2)), write(row(3, 3))]).await.unwrap();
    mirror.open_epoch(4).await.unwrap();
    assert_eq!(mirror.counts().await.unwrap().0.online, 4);
    mirror.close().await;
}

#[tokio::test]
async fn a_record_that_cannot_be_read_refuses_its_own_beat_only() {
    let (server, mirror) = started().await;
    mirror.apply(&[write(row(1, 1)), write(row(2, 2))]).await.unwrap();
    let damaged = row(1, 1).id;
    server.raw().ask(&["HSET", "hadir:mitras", &damaged.to_string(), "of another version"]);
    let refused = mirror.beat(&[beat(1), beat(2)]).await.unwrap().refused;
    assert_eq!(
        refused.iter().map(|refusal| (refusal.id, refusal.why)).collect::<Vec<_>>(),
        [(damaged, Refused::Unknown)]
    );
    mirror.apply(&[write(row(1, 1))]).await.unwrap();
    assert!(mirror.beat(&[beat(1)]).await.unwrap().refused.is_empty(), "the truth was written anew");
    mirror.close().await;
}

#[tokio::test]
async fn history_holds_an_hour_and_a_dead_nodes_record_is_dropped() {
    let (server, mirror) = started().await;
    let mut raw = server.raw();
    let point = r#"{"at":"2026-01-01T00:00:00.000Z","online":1,"available":1}"#;
    for _ in 0..500 {
        raw.ask(&["RPUSH", "hadir:history", point]);
    }
    raw.ask(&["HSET", "hadir:published", "history_ms", "1"]);
    mirror.tick().await.unwrap();
    let points = mirror.history().await.unwrap();
    assert_eq!(points.len(), 360);
    assert_eq!(points[359].online, 0, "the newest is last");

    let record =
        NodeRecord { node_id: NodeId::new("n1"), sockets: SocketCounts::default(), mode: Mode::Live, seen_ms: 0 };
    mirror.report_node(&record).await.unwrap();
    let now_ms = mirror.tick().await.unwrap().now_ms;
    let dead = serde_json::to_string(&NodeRecord { node_id: NodeId::new("dead"), ..record.clone() }).unwrap();
    raw.ask(&["HSET", "hadir:nodes", "dead", &format!("{}:{dead}", now_ms - 10_001)]);
    raw.ask(&["HSET", "hadir:nodes", "odd", "what?"]);
    assert_eq!(mirror.report_node(&record).await.unwrap().len(), 1);
    assert_eq!(raw.ask(&["HLEN", "hadir:nodes"]).number(), 1);
    mirror.close().await;
    assert_eq!(raw.ask(&["EXISTS", "hadir:nodes"]).number(), 0, "closing takes the record away");
}

#[tokio::test]
async fn a_node_that_vanished_with_sockets_of_mitras_holds_back_who_takes_the_silent() {
    let (server, mirror) = started().await;
    let caution = Caution { release_after: Duration::from_secs(60), doubted_from: u32::MAX, ..Caution::NONE };
    let silent = Duration::from_millis(1);
    mirror.apply(&[write(row(1, 1))]).await.unwrap();
    let sockets = |mitra| SocketCounts { mitra, ..SocketCounts::default() };
    let record = |node: &str, mitra| NodeRecord {
        node_id: NodeId::new(node),
        sockets: sockets(mitra),
        mode: Mode::Live,
        seen_ms: 0,
    };
    let ran_out = |node: &str, mitra: u64, now_ms: u64| {
        let json = serde_json::to_string(&record(node, mitra)).unwrap();
        server.raw().ask(&["HSET", "hadir:nodes", node, &format!("{}:{json}", now_ms - 10_001)]);
    };
    ran_out("unseen", 3, mirror.tick().await.unwrap().now_ms);
    mirror.report_node(&record("n1", 0)).await.unwrap();
    assert_eq!(
        mirror.claim_silent(Duration::from_secs(3_600), 1, &caution).await.unwrap().restraint,
        None,
        "this node had not reported either"
    );
    ran_out("idle", 0, mirror.tick().await.unwrap().now_ms);
    mirror.report_node(&record("n1", 0)).await.unwrap();
    assert_eq!(mirror.claim_silent(Duration::from_secs(3_600), 1, &caution).await.unwrap().restraint, None);
    ran_out("dead", 3, mirror.tick().await.unwrap().now_ms);
    mirror.report_node(&record("n1", 0)).await.unwrap();
    eventually("silent", || async { mirror.count_silent(silent).await.unwrap() == 1 }).await;
    let held = mirror.claim_silent(silent, 10, &caution).await.unwrap();
    assert!(held.claimed.is_empty(), "{held:?}");
    assert!(matches!(held.restraint, Some((Restraint::Lost, _))), "{held:?}");
    for mode in [Mode::Rebuilding, Mode::Live] {
        mirror.report_node(&NodeRecord { mode, ..record("dead", 3) }).await.unwrap();
        let left = mirror.claim_silent(silent, 0, &caution).await.unwrap();
        assert_eq!(left.restraint.is_some(), mode == Mode::Rebuilding, "{mode:?}: {left:?}");
    }
    for node in ["one", "two"] {
        ran_out(node, 3, mirror.tick().await.unwrap().now_ms);
    }
    mirror.report_node(&record("n1", 0)).await.unwrap();
    mirror.report_node(&record("one", 3)).await.unwrap();
    let held = mirror.claim_silent(silent, 10, &caution).await.unwrap();
    assert!(matches!(held.restraint, Some((Restraint::Lost, _))), "one is back, the other is not: {held:?}");
    let released = Caution { release_after: Duration::ZERO, ..caution };
    assert_eq!(mirror.claim_silent(silent, 10, &released).await.unwrap().claimed.len(), 1);
    mirror.close().await;
}

#[tokio::test]
async fn two_nodes_publish_each_change_once() {
    let server = Server::start();
    let (one, two) = (connect(&server.url(0), None, calm()).await, connect(&server.url(0), None, calm()).await);
    one.open_epoch(0).await.unwrap();
    let mut listening = server.raw();
    listening.ask(&["SUBSCRIBE", "availability:events"]);
    for n in 0..20 {
        one.apply(&[write(row(n, 1))]).await.unwrap();
        let (a, b) = tokio::join!(one.tick(), two.tick());
        assert_eq!(a.unwrap().snapshot.unwrap().version, b.unwrap().snapshot.unwrap().version);
    }
    server.raw().ask(&["PUBLISH", "availability:events", "end"]);
    let mut versions = Vec::new();
    loop {
        let text = listening.next().list().pop().unwrap();
        if text == "end" {
            break;
        }
        versions.push(json(Some(text))["version"].as_u64().unwrap());
    }
    assert_eq!(versions, (2..22).collect::<Vec<_>>());
    one.close().await;
    two.close().await;
}
