//! A mitra is available while it has room, and everybody knows at once when that changes.

use hadir::domain::{Actor, MitraId, Payment, Role, SessionStatus};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Desk, LONG, done, refused, told};
use crate::{
    presence::in_agreement,
    support::{Node, World, eventually, node::Mitra, on_both, on_cluster},
};

on_both!(
    the_last_free_mitra_taken_and_the_first_one_freed_flip_the_beacon_at_once,
    with_room_for_several_a_mitra_is_available_until_the_last,
    a_capacity_below_the_load_ends_nothing,
    who_may_not_take_a_session_is_told_why,
    a_suspect_mitra_may_accept,
    the_dashboard_and_the_metrics_count_sessions_by_status,
);

on_cluster!(a_flip_reaches_watchers_of_every_node);

/// A count that changes within this is not pushed before a test is over; only a flip is.
const LONG_WINDOW: (&str, &str) = ("SNAPSHOT_WINDOW_MS", "10000");

async fn roomy(node: &Node, max_sessions: u32) -> Mitra {
    let mitra = node.mitra_with_capacity(Some(max_sessions)).await;
    node.presence().go_online(mitra.id, Actor::Mitra).await.unwrap();
    mitra
}

async fn any(node: &Node) -> Value {
    node.good("/api/client/availability", &node.token(Role::Customer)).await["any"].clone()
}

async fn the_last_free_mitra_taken_and_the_first_one_freed_flip_the_beacon_at_once(world: World) {
    let node = world.node_with(&[LONG_WINDOW]).await;
    let desk = Desk::at(&node);
    let mut watcher = node.dial_customer().await;
    watcher.sees(0).await;
    let mitra = node.online_mitra().await;
    watcher.sees(1).await;
    let session = desk.taken(mitra.id, Payment::Pending, LONG).await;
    assert_eq!(watcher.sees(0).await["any"], false);
    assert_eq!(any(&node).await, false);
    desk.did(session, "reroute", json!({})).await;
    assert_eq!(watcher.sees(1).await["any"], true);
    done(desk.accept(session, mitra.id, Payment::Paid, LONG).await);
    assert_eq!(watcher.sees(0).await["any"], false);
    desk.did(session, "end", json!({})).await;
    assert_eq!(watcher.sees(1).await["any"], true);
    assert_eq!(any(&node).await, true);
}

async fn a_flip_reaches_watchers_of_every_node(world: World) {
    let (here, there) = (world.node_with(&[LONG_WINDOW]).await, world.node_with(&[LONG_WINDOW]).await);
    let mut watchers = [here.dial_customer().await, there.dial_customer().await];
    let mitra = here.online_mitra().await;
    let session = Desk::at(&there).taken(mitra.id, Payment::Paid, LONG).await;
    for watcher in &mut watchers {
        watcher.sees(1).await;
        assert_eq!(watcher.sees(0).await["any"], false);
    }
    Desk::at(&here).did(session, "end", json!({})).await;
    for watcher in &mut watchers {
        assert_eq!(watcher.sees(1).await["any"], true);
    }
}

async fn with_room_for_several_a_mitra_is_available_until_the_last(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    let mitra = roomy(&node, 3).await;
    let mut socket = node.dial_mitra(&mitra).await;
    for sessions in 1..=3 {
        desk.taken(mitra.id, Payment::Paid, LONG).await;
        let status = told(&mut socket, sessions).await;
        assert_eq!(status["available"], sessions < 3, "{status}");
        in_agreement(&world, &node, mitra.id).await;
        let page = node.good("/internal/mitras/available", &node.token(Role::Service)).await;
        assert_eq!(page["total"], u32::from(sessions < 3), "{page}");
        if sessions < 3 {
            assert_eq!(
                (&page["mitras"][0]["sessions"], &page["mitras"][0]["max_sessions"]),
                (&json!(sessions), &json!(3))
            );
        }
    }
    let more = desk.searching().await;
    assert_eq!(desk.accept(more, mitra.id, Payment::Paid, LONG).await.problem(), refused(409, "capacity_exceeded"));
}

async fn a_capacity_below_the_load_ends_nothing(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    let mitra = roomy(&node, 3).await;
    let mut watcher = node.dial_customer().await;
    watcher.sees(1).await;
    let mut sessions = Vec::new();
    for _ in 0..2 {
        sessions.push(desk.taken(mitra.id, Payment::Paid, LONG).await);
    }
    let path = format!("/internal/mitras/{}", mitra.id);
    let body = json!({ "display_name": "Sari", "max_sessions": 1 });
    done(node.ask(Method::PUT, &path, &node.token(Role::Service), Some(body)).await);
    watcher.sees(0).await;
    let row = in_agreement(&world, &node, mitra.id).await;
    assert_eq!((row.sessions, row.max_sessions), (2, 1));
    for session in &sessions {
        assert_eq!(desk.status_of(*session).await, SessionStatus::Active);
    }
    let waiting = desk.searching().await;
    for session in sessions {
        let refusal = desk.accept(waiting, mitra.id, Payment::Paid, LONG).await.problem();
        assert_eq!(refusal, refused(409, "capacity_exceeded"));
        assert_eq!(any(&node).await, false, "busy until it has room");
        desk.did(session, "end", json!({})).await;
    }
    watcher.sees(1).await;
    done(desk.accept(waiting, mitra.id, Payment::Paid, LONG).await);
}

async fn who_may_not_take_a_session_is_told_why(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    let (offline, gone, full, free) =
        (node.mitra().await, node.online_mitra().await, roomy(&node, 0).await, node.online_mitra().await);
    node.deactivate(&gone).await;
    let unknown = MitraId(Uuid::new_v4());
    let searching = desk.searching().await;
    let taken = desk.taken(free.id, Payment::Paid, LONG).await;
    for (mitra, status, code) in [
        (offline.id, 409, "not_available"),
        (gone.id, 409, "not_available"),
        (full.id, 409, "capacity_exceeded"),
        (unknown, 404, "unknown_mitra"),
        (MitraId(Uuid::nil()), 404, "unknown_mitra"),
    ] {
        let before = [desk.session(searching).await, desk.session(taken).await];
        for payment in [Payment::Paid, Payment::Pending] {
            let reply = desk.accept(searching, mitra, payment, LONG).await;
            assert_eq!(reply.problem(), refused(status, code), "{mitra}");
        }
        let reply = desk.does(taken, "reroute", json!({ "mitra_id": mitra })).await;
        assert_eq!(reply.problem(), refused(status, code), "{mitra}");
        assert_eq!([desk.session(searching).await, desk.session(taken).await], before, "nothing half-written");
    }
    for mitra in [&offline, &gone, &full] {
        assert_eq!(in_agreement(&world, &node, mitra.id).await.sessions, 0);
    }
    assert_eq!(in_agreement(&world, &node, free.id).await.sessions, 1);
}

async fn a_suspect_mitra_may_accept(world: World) {
    let node = world.node_with(&[("HEARTBEAT_INTERVAL_SECONDS", "0.1"), ("HEARTBEAT_SUSPECT_SECONDS", "0.3")]).await;
    let desk = Desk::at(&node);
    let mitra = node.online_mitra().await;
    let path = format!("/internal/mitras/{}/reachable", mitra.id);
    let service = node.token(Role::Service);
    eventually("suspect", async || (node.good(&path, &service).await["reachable"] == false).then_some(())).await;
    let session = desk.taken(mitra.id, Payment::Paid, LONG).await;
    assert_eq!(desk.status_of(session).await, SessionStatus::Active);
    assert_eq!(node.good(&path, &service).await["sessions"], 1);
}

async fn the_dashboard_and_the_metrics_count_sessions_by_status(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    let mitra = roomy(&node, 9).await;
    let mut dashboard = node.dial_dashboard().await;
    for status in [
        SessionStatus::Active,
        SessionStatus::Active,
        SessionStatus::Active,
        SessionStatus::PendingPayment,
        SessionStatus::PendingPayment,
        SessionStatus::Searching,
        SessionStatus::Ended,
    ] {
        desk.standing(status, mitra.id).await;
    }
    let frame = dashboard
        .until("five sessions", |frame| {
            let counts = &frame["counts"];
            counts["active_sessions"] == 3 && counts["pending_payment_sessions"] == 2
        })
        .await;
    assert_eq!((&frame["type"], &frame["counts"]["available"]), (&json!("dashboard"), &json!(1)));
    let counts = node.good("/internal/counts", &node.token(Role::Dashboard)).await["counts"].clone();
    assert_eq!((&counts["active_sessions"], &counts["pending_payment_sessions"]), (&json!(3), &json!(2)));
    let lines = [(SessionStatus::Active, 3), (SessionStatus::PendingPayment, 2), (SessionStatus::Searching, 1)]
        .map(|(status, number)| format!("hadir_sessions{{status=\"{status}\"}} {number}"));
    eventually("in the metrics too", async || {
        let metrics = node.get("/metrics", "").await.text;
        lines.iter().all(|line| metrics.lines().any(|found| found == line)).then_some(())
    })
    .await;
}
