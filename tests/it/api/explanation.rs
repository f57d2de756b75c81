//! Why a mitra is or is not available, in words.

use hadir::domain::{Actor, Cause, Payment, Role, SessionId};
use serde_json::{Value, json};

use crate::{
    sessions::{Desk, LONG},
    support::{Client, Node, World, eventually, node::Mitra, on_both, on_cluster, proxy::Traffic},
};

on_both!(
    one_who_was_never_online_is_said_to_be_new,
    offline_and_deactivated_say_since_when_by_whom_and_why_however_much_happened_since,
    a_suspect_mitra_is_said_to_be_silent_for_how_long,
    a_full_mitra_is_said_to_be_busy_with_which_sessions,
);

on_cluster!(sockets_are_told_by_node, a_mirror_that_lags_disagrees_or_is_away_is_told,);

async fn explained(node: &Node, mitra: &Mitra) -> Value {
    node.good(&format!("/internal/mitras/{}", mitra.id), &node.token(Role::Dashboard)).await
}

async fn verdict(node: &Node, mitra: &Mitra) -> String {
    explained(node, mitra).await["verdict"].as_str().expect("words").to_owned()
}

async fn one_who_was_never_online_is_said_to_be_new(world: World) {
    let node = world.node().await;
    let mitra = node.mitra().await;
    assert_eq!(verdict(&node, &mitra).await, "Not available: offline, and was never online.");
    node.presence().go_online(mitra.id, Actor::Mitra).await.unwrap();
    let _socket = node.dial_mitra(&mitra).await;
    let whole = explained(&node, &mitra).await;
    assert_eq!(whole["verdict"], "Available.");
    let here = whole["node"]["node_id"].as_str().unwrap();
    assert_eq!((&whole["mirror"]["agrees"], &whole["sockets"]), (&json!(true), &json!({ here: 1 })), "{whole}");
    assert_eq!((whole["events"].as_array().map(Vec::len), &whole["sessions"]), (Some(2), &json!([])), "{whole}");
}

async fn offline_and_deactivated_say_since_when_by_whom_and_why_however_much_happened_since(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    let mitra = node.mitra_with_capacity(Some(100)).await;
    node.presence().go_online(mitra.id, Actor::Mitra).await.unwrap();
    let mut sessions = Vec::new();
    for _ in 0..25 {
        sessions.push(desk.taken(mitra.id, Payment::Paid, LONG).await);
    }
    node.presence().go_offline(mitra.id, Actor::Mitra).await.unwrap();
    let offline = node.store().events(mitra.id, 1).await.unwrap().remove(0);
    // More than is shown, and all of it later.
    for session in sessions {
        desk.did(session, "end", json!({})).await;
    }
    let at = |at| hadir::protocol::timestamp(at);
    let expected = format!("Not available: offline since {} by mitra (command).", at(offline.at));
    assert_eq!(verdict(&node, &mitra).await, expected);
    let why = Cause::new(Actor::Dashboard, "asked to");
    node.presence().set_active(mitra.id, false, why).await.unwrap();
    let gone = node.store().events(mitra.id, 1).await.unwrap().remove(0);
    let expected = format!("Not available: deactivated since {} by dashboard (asked to).", at(gone.at));
    assert_eq!(verdict(&node, &mitra).await, expected);
    let shown = explained(&node, &mitra).await;
    assert_eq!((shown["events"].as_array().map(Vec::len), &shown["available"]), (Some(20), &json!(false)));
}

async fn a_suspect_mitra_is_said_to_be_silent_for_how_long(world: World) {
    let node = world.node_with(&[("HEARTBEAT_INTERVAL_SECONDS", "0.3"), ("HEARTBEAT_SUSPECT_SECONDS", "1")]).await;
    let mitra = node.online_mitra().await;
    let words = eventually("suspect", async || {
        let words = verdict(&node, &mitra).await;
        words.contains("suspect").then_some(words)
    })
    .await;
    let silent = words.strip_prefix("Not available: online but suspect, the last heartbeat is ").expect(&words);
    let seconds: u64 = silent.strip_suffix(" s old.").expect(&words).parse().expect("a number");
    assert!((1..20).contains(&seconds), "{words}");
}

async fn a_full_mitra_is_said_to_be_busy_with_which_sessions(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    let mitra = node.mitra_with_capacity(Some(22)).await;
    node.presence().go_online(mitra.id, Actor::Mitra).await.unwrap();
    node.presence().put_mitra(mitra.id, "Sari", Some(2), Actor::Service).await.unwrap();
    let sessions =
        [desk.taken(mitra.id, Payment::Paid, LONG).await, desk.taken(mitra.id, Payment::Pending, LONG).await];
    let whole = explained(&node, &mitra).await;
    let (first, second) = (sessions[0], sessions[1]);
    assert_eq!(whole["verdict"], format!("Not available: busy with 2 of 2 sessions ({first}, {second})."));
    assert_eq!(whole["sessions"], json!(sessions));
    assert_eq!((&whole["reachable"], &whole["truth"]["sessions"]), (&json!(true), &json!(2)));
    node.presence().put_mitra(mitra.id, "Sari", Some(22), Actor::Service).await.unwrap();
    for _ in 0..20 {
        desk.taken(mitra.id, Payment::Paid, LONG).await;
    }
    let words = verdict(&node, &mitra).await;
    assert!(
        words.starts_with("Not available: busy with 22 of 22 sessions (") && words.ends_with(" and 2 more)."),
        "{words}"
    );
    for session in node.store().load_of(mitra.id, 100).await.unwrap() {
        let SessionId(session) = session;
        desk.did(session, "end", json!({})).await;
    }
    node.presence().put_mitra(mitra.id, "Sari", Some(0), Actor::Service).await.unwrap();
    assert_eq!(verdict(&node, &mitra).await, "Not available: busy with 0 of 0 sessions.");
}

async fn sockets_are_told_by_node(world: World) {
    let (here, there) =
        (world.node_with(&[("HADIR_NODE_ID", "one")]).await, world.node_with(&[("HADIR_NODE_ID", "two")]).await);
    let mitra = here.online_mitra().await;
    let mut sockets: Vec<Client> = Vec::new();
    for node in [&here, &there, &there] {
        sockets.push(node.dial_mitra(&mitra).await);
    }
    let told = async |node: &Node, expected: Value| {
        // A node is asked once it has reported itself.
        eventually(&expected.to_string(), async || {
            (explained(node, &mitra).await["sockets"] == expected).then_some(())
        })
        .await;
    };
    for node in [&here, &there] {
        told(node, json!({ "one": 1, "two": 2 })).await;
    }
    drop(sockets.pop());
    told(&here, json!({ "one": 1, "two": 1 })).await;
    // Who cannot be asked is not in the answer.
    here.mirror_traffic(Traffic::Cut);
    told(&here, json!({ "one": 1 })).await;
}

async fn a_mirror_that_lags_disagrees_or_is_away_is_told(world: World) {
    let node = world.node_with(&[("HADIR_CHANGE_FEED_SECONDS", "3600")]).await;
    let mitra = node.online_mitra().await;
    let sql = "CREATE OR REPLACE FUNCTION hadir_ring(channel_schema text, payloads text[]) RETURNS void \
               LANGUAGE plpgsql AS $$ BEGIN END $$";
    sqlx::query(sql).execute(world.sql()).await.unwrap();
    let capacity = async |max_sessions: i32| {
        let mut writer = world.sql().acquire().await.unwrap();
        let set = "UPDATE mitras SET max_sessions = $1";
        sqlx::query(set).bind(max_sessions).execute(&mut *writer).await.unwrap();
    };
    capacity(7).await;
    assert_eq!(verdict(&node, &mitra).await, "Available. The mirror lags behind and follows within a moment.");
    assert_eq!(explained(&node, &mitra).await["mirror"]["agrees"], false);
    node.presence().reseed().await.unwrap();
    assert_eq!(verdict(&node, &mitra).await, "Available.");
    sqlx::query("ALTER TABLE mitras DISABLE TRIGGER USER").execute(world.sql()).await.unwrap();
    capacity(0).await;
    let words = verdict(&node, &mitra).await;
    assert_eq!(words, "Not available: busy with 0 of 0 sessions. The mirror says otherwise, until the next reseed.");
    assert_eq!(explained(&node, &mitra).await["mirror"]["agrees"], false);
    capacity(7).await;
    node.mirror_traffic(Traffic::Cut);
    node.reaches(hadir::domain::Mode::Fallback).await;
    let words = verdict(&node, &mitra).await;
    assert_eq!(words, "Available. Judged by the store, because the mirror cannot be asked.");
}
