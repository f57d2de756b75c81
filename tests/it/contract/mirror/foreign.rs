//! Two stores on one server without prefixes: a mirror belongs to the store that seeded it.

use std::collections::BTreeMap;

use hadir::{
    domain::{Fence, NodeId, NodeRecord, SocketCounts},
    mirror::{Beat, Caution, Claimed, Mirror, MirrorError, valkey::ValkeyMirror},
};
use uuid::Uuid;

use super::{calm, connect_for, id, listening, row, with, write};
use crate::support::valkey::{Raw, Server};

const MINE: Uuid = Uuid::from_u128(0x11111111_2222_3333_4444_555555555555);
const OTHERS: Uuid = Uuid::from_u128(0x99999999_2222_3333_4444_555555555555);

/// A server whose mirror is seeded for `OTHERS`, and the mirror as a node of either store sees it.
async fn shared() -> (Server, ValkeyMirror, ValkeyMirror) {
    let server = Server::start();
    let theirs = connect_for(Some(OTHERS), &server.url(0), None, calm()).await;
    listening(&theirs).await;
    theirs.apply(&[write(row(1, 7)), write(row(2, 7))]).await.unwrap();
    theirs.open_epoch(2).await.unwrap();
    let mine = connect_for(Some(MINE), &server.url(0), None, calm()).await;
    listening(&mine).await;
    (server, theirs, mine)
}

/// Every key with its content.
fn contents(raw: &mut Raw) -> BTreeMap<String, String> {
    let keys = raw.ask(&["KEYS", "*"]).list();
    let mut read = |key: &str| match raw.ask(&["TYPE", key]).text().as_deref() {
        Some("string") => raw.ask(&["GET", key]),
        Some("hash") => raw.ask(&["HGETALL", key]),
        Some("set") => raw.ask(&["SMEMBERS", key]),
        Some("zset") => raw.ask(&["ZRANGE", key, "0", "-1", "WITHSCORES"]),
        Some("list") => raw.ask(&["LRANGE", key, "0", "-1"]),
        other => panic!("{key} is of type {other:?}"),
    };
    keys.into_iter().map(|key| (key.clone(), format!("{:?}", read(&key)))).collect()
}

fn refused<T: std::fmt::Debug>(what: &str, answer: Result<T, MirrorError>) {
    let error = answer.expect_err(what);
    assert!(error.is_foreign(), "{what}: {error}");
    let text = error.to_string();
    assert!(text.contains("VALKEY_KEY_PREFIX") && text.contains(&OTHERS.to_string()), "{what}: {text}");
}

#[tokio::test]
async fn nothing_is_written_to_the_mirror_of_another_store_nor_read_from_it() {
    let (server, theirs, mine) = shared().await;
    let mut raw = server.raw();
    let before = contents(&mut raw);
    let record = NodeRecord {
        node_id: NodeId::new("n1"),
        sockets: SocketCounts::default(),
        mode: hadir::domain::Mode::Live,
        seen_ms: 0,
    };
    let fence = Fence { generation: 1, revision: 99 };
    let claimed = Claimed { id: id(1), online_epoch: 7, last_ms: 1 };
    refused("apply", mine.apply(&[write(with(row(1, 9), |facts| facts.online = false))]).await);
    refused("beat", mine.beat(&[Beat { id: id(1), online_epoch: 7, at_ms: 1 }]).await);
    refused("tick", mine.tick().await);
    refused("counts", mine.counts().await);
    refused("find_available", mine.find_available(5).await);
    refused("entries", mine.entries(&[id(1)]).await);
    refused("count_silent", mine.count_silent(calm().suspect_after).await);
    refused("claim_silent", mine.claim_silent(calm().suspect_after, 5, &Caution::NONE).await);
    refused("unclaim", mine.unclaim(&[claimed]).await);
    refused("known", mine.known(0).await);
    refused("forget", mine.forget(&[(id(1), fence)]).await);
    refused("open_epoch", mine.open_epoch(0).await);
    refused("report_node", mine.report_node(&record).await);
    assert_eq!(mine.cached_snapshot().await.unwrap(), None, "what others offer is not ours to show");
    assert!(theirs.cached_snapshot().await.unwrap().is_some());
    // A node of the same name, which has a record there.
    theirs.report_node(&record).await.unwrap();
    mine.close().await;
    assert_eq!(raw.ask(&["HEXISTS", "hadir:nodes", "n1"]).number(), 1);
    raw.ask(&["DEL", "hadir:nodes"]);
    assert_eq!(contents(&mut raw), before);
    theirs.close().await;
}

#[tokio::test]
async fn two_nodes_of_one_store_share_its_mirror() {
    let (server, theirs, _mine) = shared().await;
    let second = connect_for(Some(OTHERS), &server.url(0), None, calm()).await;
    listening(&second).await;
    assert_eq!(second.tick().await.unwrap().epoch, theirs.tick().await.unwrap().epoch);
    assert_eq!(second.counts().await.unwrap().0.available, 2);
}

#[tokio::test]
async fn an_emptied_mirror_is_taken_by_whoever_seeds_it() {
    let (server, theirs, mine) = shared().await;
    let mut raw = server.raw();
    raw.ask(&["FLUSHALL"]);
    assert!(mine.tick().await.unwrap().epoch.is_none());
    assert!(theirs.tick().await.unwrap().epoch.is_none(), "a poll takes nothing");
    assert_eq!(raw.ask(&["EXISTS", "hadir:store"]).number(), 0);
    mine.apply(&[write(row(3, 1))]).await.unwrap();
    assert_eq!(raw.ask(&["GET", "hadir:store"]).text(), Some(MINE.to_string()));
    assert!(theirs.apply(&[write(row(1, 8))]).await.is_err_and(|error| error.is_foreign()));
    mine.open_epoch(1).await.unwrap();
    assert_eq!(mine.counts().await.unwrap().0.available, 1);

    // A store without mitras has nothing to apply.
    raw.ask(&["FLUSHALL"]);
    theirs.open_epoch(0).await.unwrap();
    refused("the next of the other store", mine.tick().await);
}

#[tokio::test]
async fn a_mirror_that_lost_its_identity_is_seeded_again_and_nonsense_is_none() {
    let (server, theirs, mine) = shared().await;
    let mut raw = server.raw();
    for poison in [["DEL", "hadir:store", ""], ["SET", "hadir:store", "nonsense"], ["SADD", "hadir:store", "x"]] {
        raw.ask(&["DEL", "hadir:store"]);
        raw.ask(poison.iter().copied().filter(|word| !word.is_empty()).collect::<Vec<_>>().as_slice());
        assert!(theirs.tick().await.unwrap().epoch.is_none(), "{poison:?}");
        theirs.apply(&[write(row(1, 7)), write(row(2, 7))]).await.unwrap();
        theirs.open_epoch(2).await.unwrap();
        assert!(theirs.tick().await.unwrap().epoch.is_some(), "{poison:?}");
        assert!(mine.tick().await.is_err_and(|error| error.is_foreign()), "{poison:?}");
    }
}
