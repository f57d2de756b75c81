//! Assignment is law: decided in the store, whatever the mirror says and however many ask at once.

use futures_util::future::join_all;
use hadir::domain::{Actor, MitraId, MitraRow, Mode, Payment, Role};
use uuid::Uuid;

use super::{Desk, LONG, done, refused};
use crate::{
    presence::in_agreement,
    support::{Node, World, node::Mitra, on_both, on_cluster},
};

on_both!(of_two_hundred_accepts_at_once_three_win_where_three_have_room, of_twenty_mitras_at_one_session_one_wins,);

on_cluster!(
    a_mirror_that_says_everybody_is_free_lets_nobody_in,
    a_mirror_that_says_everybody_is_free_lets_nobody_in_on_two_nodes,
);

/// A test run is a busy machine: who waits for a connection or a row here is not to be told to try again.
pub const PATIENT: [(&str, &str); 4] = [
    ("HADIR_MIRROR_COMMAND_TIMEOUT_MS", "10000"),
    ("HADIR_DB_ACQUIRE_TIMEOUT_MS", "20000"),
    ("HADIR_DB_QUERY_TIMEOUT_MS", "20000"),
    ("HADIR_DB_LOCK_TIMEOUT_MS", "20000"),
];

async fn patient(world: &World) -> Node {
    match world.backend {
        crate::support::Backend::Embedded => world.node().await,
        crate::support::Backend::Clustered => world.node_with(&PATIENT).await,
    }
}

async fn roomy(node: &Node, max_sessions: u32) -> Mitra {
    let mitra = node.mitra_with_capacity(Some(max_sessions)).await;
    node.presence().go_online(mitra.id, Actor::Mitra).await.unwrap();
    mitra
}

/// So many accepts of this mitra at once, the desks in turn; how many were accepted, the others having been told that it is full.
async fn accepted(desks: &[Desk<'_>], mitra: MitraId, at_once: usize) -> usize {
    let mut sessions = Vec::new();
    for _ in 0..at_once {
        sessions.push(desks[0].searching().await);
    }
    let turns = sessions.into_iter().zip(desks.iter().cycle());
    let calls = turns.map(|(session, desk)| desk.accept(session, mitra, Payment::Paid, LONG));
    let (accepted, others): (Vec<_>, Vec<_>) =
        join_all(calls).await.into_iter().partition(|reply| reply.status.as_u16() == 200);
    for reply in others {
        assert_eq!(reply.problem(), refused(409, "capacity_exceeded"));
    }
    accepted.len()
}

async fn of_two_hundred_accepts_at_once_three_win_where_three_have_room(world: World) {
    let node = patient(&world).await;
    let mitra = roomy(&node, 3).await;
    assert_eq!(accepted(&[Desk::at(&node)], mitra.id, 200).await, 3);
    // So many at once may be too much for a mirror on a busy machine; it is healed then.
    node.reaches(Mode::Live).await;
    assert_eq!(in_agreement(&world, &node, mitra.id).await.sessions, 3);
}

async fn of_twenty_mitras_at_one_session_one_wins(world: World) {
    let node = patient(&world).await;
    let desk = Desk::at(&node);
    let mut mitras = Vec::new();
    for _ in 0..20 {
        mitras.push(node.online_mitra().await.id);
    }
    let session = desk.searching().await;
    let replies = join_all(mitras.iter().map(|mitra| desk.accept(session, *mitra, Payment::Paid, LONG))).await;
    let (won, lost): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status.as_u16() == 200);
    assert_eq!(won.len(), 1);
    for reply in lost {
        assert_eq!(reply.problem(), refused(409, "wrong_state"));
    }
    let winner = done(won.into_iter().next().unwrap())["mitra_id"].clone();
    for mitra in mitras {
        let row = in_agreement(&world, &node, mitra).await;
        assert_eq!(row.sessions, u32::from(winner == serde_json::json!(mitra)));
    }
}

/// What the mirror holds of a mitra becomes wrong, and stays so: online, with endless room, and newer than any truth. The mirror
/// knows how much it holds, and would say that it was tampered with: that is tampered with too.
const CORRUPT: &str = "
local id, record, now = ARGV[1], ARGV[2], redis.call('TIME')[1] * 1000
redis.call('HSET', 'hadir:mitras', id, record)
redis.call('SET', 'mitra:capacity:' .. id, '0')
redis.call('SADD', 'mitras:online', id)
redis.call('SREM', 'mitras:deactivated', id)
redis.call('ZADD', 'mitras:liveness', now + 20000, id)
redis.call('ZADD', 'mitras:available', now + 20000, id)
local sizes = redis.call('HLEN', 'hadir:mitras') .. '/' .. redis.call('SCARD', 'mitras:online') .. '/'
  .. redis.call('SCARD', 'mitras:deactivated') .. '/' .. redis.call('ZCARD', 'mitras:liveness') .. '/'
  .. redis.call('ZCARD', 'mitras:available')
return redis.call('HSET', 'hadir:published', 'sizes', sizes)";

fn corrupt(world: &World, row: &MitraRow) {
    let record = format!("o:{}:{}:999999999999:0:1000", row.online_epoch.max(1), row.fence.generation);
    world.valkey().ask(&["EVAL", CORRUPT, "0", &row.id.to_string(), &record]);
}

async fn nobody_is_let_in(world: &World, nodes: &[Node]) {
    let desks: Vec<Desk<'_>> = nodes.iter().map(Desk::at).collect();
    let mitra = roomy(&nodes[0], 3).await;
    let (offline, gone) = (nodes[0].mitra().await, nodes[0].mitra().await);
    nodes[0].deactivate(&gone).await;
    for one in [&mitra, &offline, &gone] {
        corrupt(world, &nodes[0].store().mitra(one.id).await.unwrap().unwrap());
    }
    let offered = async |node: &Node| {
        let page = node.good("/internal/mitras/available", &node.token(Role::Service)).await;
        assert_eq!(page["source"], serde_json::json!(hadir::domain::Source::Valkey), "{page}");
        let ids = page["mitras"].as_array().unwrap().iter().map(|one| one["mitra_id"].as_str().unwrap().to_owned());
        let mut ids: Vec<String> = ids.collect();
        ids.sort();
        ids
    };
    let mut everybody: Vec<String> = [&mitra, &offline, &gone].map(|one| one.id.to_string()).into();
    everybody.sort();
    assert_eq!(offered(&nodes[0]).await, everybody, "the mirror offers them all");
    for away in [&offline, &gone] {
        let replies = join_all(desks.iter().map(async |desk| {
            let session: Uuid = desk.searching().await;
            desk.accept(session, away.id, Payment::Paid, LONG).await
        }))
        .await;
        for reply in replies {
            assert_eq!(reply.problem(), refused(409, "not_available"));
        }
    }
    assert_eq!(accepted(&desks, mitra.id, 200).await, 3);
    for node in nodes {
        assert_eq!(offered(node).await, everybody, "the mirror was wrong all the while");
        let row = node.store().mitra(mitra.id).await.unwrap().unwrap();
        assert_eq!(row.sessions, 3);
    }
}

async fn a_mirror_that_says_everybody_is_free_lets_nobody_in(world: World) {
    let nodes = [patient(&world).await];
    nobody_is_let_in(&world, &nodes).await;
}

async fn a_mirror_that_says_everybody_is_free_lets_nobody_in_on_two_nodes(world: World) {
    let nodes = [patient(&world).await, patient(&world).await];
    nobody_is_let_in(&world, &nodes).await;
}
