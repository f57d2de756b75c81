//! What other programs left in the keys: a mirror throws away what does not fit.

use std::collections::BTreeSet;

use hadir::{
    domain::{Fence, MitraId},
    mirror::{Applied, Mirror, valkey::ValkeyMirror},
};

use super::{calm, connect, id, listening, row, with, write};
use crate::support::valkey::{Answer, Server};

async fn seeded() -> (Server, ValkeyMirror) {
    let server = Server::start();
    let mirror = connect(&server.url(0), None, calm()).await;
    listening(&mirror).await;
    mirror.apply(&[write(row(1, 1))]).await.unwrap();
    mirror.open_epoch(1).await.unwrap();
    (server, mirror)
}

async fn known(mirror: &ValkeyMirror) -> BTreeSet<MitraId> {
    let (mut known, mut cursor) = (BTreeSet::new(), 0);
    loop {
        let (next, ids) = mirror.known(cursor).await.unwrap();
        known.extend(ids);
        if next == 0 {
            return known;
        }
        cursor = next;
    }
}

#[tokio::test]
async fn keys_of_a_wrong_type_are_deleted_by_the_next_poll() {
    let (server, mirror) = seeded().await;
    let mut raw = server.raw();
    for (key, rebuilds) in [
        ("hadir:epoch", true),
        ("hadir:published", true),
        ("hadir:mitras", true),
        ("hadir:claimed", true),
        ("mitras:online", true),
        ("mitras:deactivated", true),
        ("mitras:liveness", true),
        ("mitras:available", true),
        ("availability:snapshot", false),
        ("hadir:history", false),
        ("hadir:sweep", false),
        ("hadir:nodes", false),
        ("hadir:store", false),
    ] {
        for poison in [["SET", "x"], ["RPUSH", "x"], ["SADD", "x"]] {
            raw.ask(&["DEL", key]);
            raw.ask(&[poison[0], key, poison[1]]);
            let before = raw.ask(&["TYPE", key]);
            let pulse = mirror.tick().await.unwrap_or_else(|error| panic!("{key} by {poison:?}: {error}"));
            if rebuilds && raw.ask(&["TYPE", key]) != before {
                assert!(pulse.epoch.is_none(), "{key} by {poison:?}");
            }
            mirror.apply(&[write(row(1, 1))]).await.unwrap_or_else(|error| panic!("{key} by {poison:?}: {error}"));
            mirror.open_epoch(1).await.unwrap();
            mirror.cached_snapshot().await.unwrap_or_else(|error| panic!("{key} by {poison:?}: {error}"));
        }
        // As a seed does: what other programs put into a set of the right type goes with its members.
        known(&mirror).await;
    }
    assert_eq!(known(&mirror).await, BTreeSet::from([id(1)]));
    let counts = mirror.counts().await.unwrap().0;
    assert_eq!((counts.online, counts.available, counts.deactivated), (1, 1, 0));
    mirror.close().await;
}

#[tokio::test]
async fn members_that_are_no_id_go_with_the_next_comparison() {
    let (server, mirror) = seeded().await;
    let mut raw = server.raw();
    let loud = MitraId(uuid::Uuid::from_u128(0xabc)).to_string().to_uppercase();
    for word in ["somebody", "", &loud] {
        raw.ask(&["ZADD", "mitras:available", "9999999999999", word]);
        raw.ask(&["ZADD", "mitras:liveness", "9999999999999", word]);
        raw.ask(&["SADD", "mitras:online", word]);
        raw.ask(&["SADD", "mitras:deactivated", word]);
        raw.ask(&["HSET", "hadir:mitras", word, "o:1:1:1:0:1"]);
    }
    assert!(mirror.tick().await.unwrap().epoch.is_none());
    assert_eq!(known(&mirror).await, BTreeSet::from([id(1)]));
    mirror.open_epoch(1).await.unwrap();
    let counts = mirror.counts().await.unwrap().0;
    assert_eq!((counts.online, counts.available, counts.deactivated), (1, 1, 0));
    assert_eq!(raw.ask(&["HLEN", "hadir:mitras"]).number(), 1);

    // In a mirror that stays open, the comparison itself is no damage.
    known(&mirror).await;
    assert!(mirror.tick().await.unwrap().epoch.is_some());
    mirror.close().await;
}

#[tokio::test]
async fn records_that_no_node_can_have_written_are_replaced_or_removed() {
    let (server, mirror) = seeded().await;
    let mut raw = server.raw();
    let (one, stranger) = (id(1).to_string(), id(77));
    for record in [
        "o:1:99999999999999999999999:1:0:1",
        "o:1:9000000000000000000:1:0:1",
        "o:1:1:99999999999999999999999:0:1",
        "o:99999999999999999999999:1:9:0:1",
        "o:1:1:9:99999999999:99999999999",
        "z:1:1:9:0:1",
        "nonsense",
    ] {
        raw.ask(&["HSET", "hadir:mitras", &one, record]);
        let offline = with(row(1, 2), |facts| facts.online = false);
        assert_eq!(mirror.apply(&[write(offline)]).await.unwrap().outcomes, [Applied::Changed], "{record}");
        assert_eq!(mirror.counts().await.unwrap().0.available, 0, "{record}");
        mirror.apply(&[write(row(1, 3))]).await.unwrap();

        raw.ask(&["HSET", "hadir:mitras", &stranger.to_string(), record]);
        let entry = mirror.entries(&[stranger]).await.unwrap().of_each[0].clone();
        let seen: Fence = entry.unwrap_or_else(|| panic!("{record} is not seen")).fence;
        assert_eq!(mirror.forget(&[(stranger, seen)]).await.unwrap(), 1, "{record}");
        assert_eq!(raw.ask(&["HEXISTS", "hadir:mitras", &stranger.to_string()]), Answer::Number(0), "{record}");
        raw.ask(&["DEL", "hadir:mitras"]);
        mirror.apply(&[write(row(1, 1))]).await.unwrap();
    }
    mirror.close().await;
}
