//! A mitra's socket: commands and what follows from them, on all its devices.

use futures_util::SinkExt;
use hadir::domain::StatusReason;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{World, on_both};

on_both!(
    a_mitra_is_welcomed_and_told_its_status_first,
    going_online_and_offline_is_acknowledged_and_told_to_every_device,
    going_online_again_is_only_a_heartbeat,
    a_connection_is_not_intent,
    what_was_said_before_hanging_up_counts,
    of_two_sockets_any_order_of_ends_and_commands_leaves_what_was_commanded_last,
    commands_are_answered_in_order_and_pings_meanwhile,
    a_watcher_may_not_command,
);

fn reason(reason: StatusReason) -> Value {
    serde_json::to_value(reason).expect("a word")
}

async fn a_mitra_is_welcomed_and_told_its_status_first(world: World) {
    let node = world.node().await;
    let mitra = node.mitra().await;
    let client = node.dial_mitra(&mitra).await;
    let welcome = &client.welcome;
    for (field, value) in [("heartbeat_interval_ms", 15_000), ("offline_after_ms", 90_000)] {
        assert_eq!(welcome[field], value, "{welcome}");
    }
    let status = &client.first_status;
    assert_eq!(status["mitra_id"], json!(mitra.id));
    assert_eq!((&status["online"], &status["available"]), (&json!(false), &json!(false)));
    assert_eq!(status["reason"], reason(StatusReason::Initial));
}

async fn going_online_and_offline_is_acknowledged_and_told_to_every_device(world: World) {
    let node = world.node().await;
    let mitra = node.mitra().await;
    let (mut phone, mut tablet) = (node.dial_mitra(&mitra).await, node.dial_mitra(&mitra).await);
    let mut revision = phone.first_status["revision"].as_i64().unwrap();
    for (command, online) in [("online", true), ("offline", false), ("online", true)] {
        phone.commands(command).await;
        let status = tablet.until(command, |frame| frame["type"] == "status" && frame["online"] == online).await;
        assert_eq!((&status["reachable"], &status["available"]), (&json!(online), &json!(online)));
        assert_eq!(status["reason"], reason(StatusReason::Command));
        assert!(status["revision"].as_i64().unwrap() > revision);
        revision = status["revision"].as_i64().unwrap();
        let answer = node.good("/api/mitra/status", &mitra.token).await;
        assert_eq!(answer["online"], online);
    }
}

async fn going_online_again_is_only_a_heartbeat(world: World) {
    let node = world.node().await;
    let mitra = node.mitra().await;
    let mut client = node.dial_mitra(&mitra).await;
    client.commands("online").await;
    let before = node.store().mitra(mitra.id).await.unwrap().unwrap();
    client.commands("online").await;
    let after = node.store().mitra(mitra.id).await.unwrap().unwrap();
    assert_eq!((before.fence, before.online_epoch), (after.fence, after.online_epoch));
    let online = node.store().events(mitra.id, 10).await.unwrap();
    assert_eq!(online.iter().filter(|event| event.actor == hadir::domain::Actor::Mitra.as_str()).count(), 1);
}

async fn a_connection_is_not_intent(world: World) {
    let node = world.node().await;
    let mitra = node.mitra().await;
    let (mut phone, tablet) = (node.dial_mitra(&mitra).await, node.dial_mitra(&mitra).await);
    phone.commands("online").await;
    drop(tablet);
    phone.is_alive().await;
    let status = node.good("/api/mitra/status", &mitra.token).await;
    assert_eq!((&status["online"], &status["available"]), (&json!(true), &json!(true)));
    drop(phone);
    crate::support::eventually("the sockets are gone", async || {
        (node.presence().hub().socket_counts().mitra == 0).then_some(())
    })
    .await;
    let status = node.good("/api/mitra/status", &mitra.token).await;
    assert_eq!((&status["online"], &status["available"]), (&json!(true), &json!(true)));
    let back = node.dial_mitra(&mitra).await;
    assert_eq!(back.first_status["online"], true);
}

async fn what_was_said_before_hanging_up_counts(world: World) {
    let node = world.node().await;
    for _ in 0..5 {
        let mitra = node.mitra().await;
        let mut phone = node.dial_mitra(&mitra).await;
        phone.commands("online").await;
        // In one write, as an app does that is closed by its user.
        phone.ws.feed(Message::text(json!({ "type": "offline" }).to_string())).await.unwrap();
        phone.ws.close(None).await.unwrap();
        drop(phone);
        crate::support::eventually("offline", async || {
            (!node.store().mitra(mitra.id).await.unwrap().unwrap().online).then_some(())
        })
        .await;
    }
}

/// What may happen to a mitra with a phone and a tablet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    PhoneGoes,
    TabletGoes,
    Offline,
    Online,
}

/// All orders of these.
fn orders(events: &[Event]) -> Vec<Vec<Event>> {
    if events.is_empty() {
        return vec![Vec::new()];
    }
    let begun_with = |first: usize| {
        let mut rest = events.to_vec();
        let first = rest.remove(first);
        orders(&rest).into_iter().map(move |order| [vec![first], order].concat())
    };
    (0..events.len()).flat_map(begun_with).collect()
}

/// Closing a socket changes nothing, whatever else lives; a command on either counts for both.
async fn of_two_sockets_any_order_of_ends_and_commands_leaves_what_was_commanded_last(world: World) {
    let node = world.node().await;
    for order in orders(&[Event::PhoneGoes, Event::TabletGoes, Event::Offline, Event::Online]) {
        let mitra = node.mitra().await;
        let (mut phone, mut tablet) = (Some(node.dial_mitra(&mitra).await), Some(node.dial_mitra(&mitra).await));
        phone.as_mut().expect("there").commands("online").await;
        let mut online = true;
        for event in &order {
            match event {
                Event::PhoneGoes => drop(phone.take()),
                Event::TabletGoes => drop(tablet.take()),
                Event::Offline | Event::Online => {
                    online = *event == Event::Online;
                    let word = if online { "online" } else { "offline" };
                    // The tablet first: the phone had the first word. Without either, by REST.
                    match tablet.as_mut().or(phone.as_mut()) {
                        Some(socket) => socket.commands(word).await,
                        None => {
                            let path = format!("/api/mitra/status/{word}");
                            assert_eq!(node.post(&path, &mitra.token, json!({})).await.status.as_u16(), 200);
                        }
                    }
                }
            }
            let left = u64::from(phone.is_some()) + u64::from(tablet.is_some());
            crate::support::eventually("so many sockets", async || {
                (node.presence().hub().socket_counts().mitra == left).then_some(())
            })
            .await;
            let status = node.good("/api/mitra/status", &mitra.token).await;
            let said = (&status["online"], &status["reachable"], &status["available"]);
            assert_eq!(said, (&json!(online), &json!(online), &json!(online)), "{event:?} of {order:?}");
        }
    }
}

async fn commands_are_answered_in_order_and_pings_meanwhile(world: World) {
    let node = world.node().await;
    let mut client = node.dial_mitra(&node.mitra().await).await;
    for (id, kind) in [("1", "online"), ("2", "offline"), ("3", "online")] {
        client.send(json!({ "type": kind, "id": id })).await;
    }
    client.send(json!({ "type": "ping" })).await;
    let (mut acknowledged, mut ponged) = (Vec::new(), false);
    while acknowledged.len() < 3 || !ponged {
        let frame = client.next().await;
        match frame["type"].as_str() {
            Some("ack") => acknowledged.push(frame["id"].as_str().unwrap().to_owned()),
            Some("pong") => ponged = true,
            _ => {}
        }
    }
    assert_eq!(acknowledged, ["1", "2", "3"]);
}

async fn a_watcher_may_not_command(world: World) {
    let node = world.node().await;
    let mut client = node.dial_customer().await;
    for kind in ["online", "offline"] {
        let answer = client.command(kind).await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("forbidden")));
    }
    client.is_alive().await;
}
