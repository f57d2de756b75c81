//! Each call from each state, with its effects; and what may be repeated.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use hadir::domain::{
    Actor, MitraId, Payment, Role, SessionStatus,
    SessionStatus::{Active, Cancelled, Ended, PendingPayment, Searching},
    StatusReason,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Desk, LONG, done, id_in, refused, told};
use crate::{
    presence::in_agreement,
    support::{Client, Node, World, eventually, node::Mitra, on_both, on_cluster},
};

on_both!(
    each_call_from_each_state_with_its_effects,
    the_same_id_again_is_the_same_session_however_often_at_once,
    an_id_of_another_customer_is_a_conflict,
    the_same_accept_again_is_the_same_answer,
    the_record_names_the_session_the_caller_and_the_reason,
    a_session_is_as_the_contract_writes_it,
);

on_cluster!(a_transition_reaches_sockets_on_every_node);

/// Whose the session is after a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Whose {
    Anna,
    Budi,
    Nobody,
}

/// What becomes of its end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Kept,
    Fresh,
    LaterByAMinute,
    None,
}

/// Then it stands so; otherwise the call is refused and changes nothing.
type Then = Option<(SessionStatus, Whose, End)>;

const NO: Then = None;

/// The state machine of the contract, section 6, as it is written there: what follows from searching, pending payment, active,
/// ended, expired, cancelled.
fn table(anna: MitraId, budi: MitraId) -> Vec<(&'static str, Value, [Then; 6])> {
    use End::{Fresh, Kept, LaterByAMinute};
    use Whose::{Anna, Budi, Nobody};
    let accept = |mitra, payment| json!({ "mitra_id": mitra, "payment": payment, "duration_seconds": LONG });
    let (paid, pending) = (Payment::Paid, Payment::Pending);
    vec![
        ("accept", accept(anna, paid), [Some((Active, Anna, Fresh)), NO, Some((Active, Anna, Kept)), NO, NO, NO]),
        (
            "accept",
            accept(anna, pending),
            [
                Some((PendingPayment, Anna, Fresh)),
                Some((PendingPayment, Anna, Kept)),
                Some((Active, Anna, Kept)),
                NO,
                NO,
                NO,
            ],
        ),
        ("accept", accept(budi, paid), [Some((Active, Budi, Fresh)), NO, NO, NO, NO, NO]),
        ("accept", accept(budi, pending), [Some((PendingPayment, Budi, Fresh)), NO, NO, NO, NO, NO]),
        ("confirm-payment", json!({}), [NO, Some((Active, Anna, Kept)), Some((Active, Anna, Kept)), NO, NO, NO]),
        ("extend", json!({ "seconds": 60 }), [NO, NO, Some((Active, Anna, LaterByAMinute)), NO, NO, NO]),
        (
            "reroute",
            json!({ "mitra_id": budi }),
            [NO, Some((PendingPayment, Budi, Kept)), Some((Active, Budi, Kept)), NO, NO, NO],
        ),
        (
            "reroute",
            json!({ "mitra_id": anna }),
            [NO, Some((PendingPayment, Anna, Kept)), Some((Active, Anna, Kept)), NO, NO, NO],
        ),
        (
            "reroute",
            json!({}),
            [NO, Some((Searching, Nobody, End::None)), Some((Searching, Nobody, End::None)), NO, NO, NO],
        ),
        (
            "end",
            json!({ "reason": "enough" }),
            [
                Some((Cancelled, Nobody, End::None)),
                Some((Ended, Anna, Kept)),
                Some((Ended, Anna, Kept)),
                Some((Ended, Anna, Kept)),
                NO,
                Some((Cancelled, Nobody, End::None)),
            ],
        ),
    ]
}

fn load(session: &Value, mitra: MitraId) -> u32 {
    let is_load = [json!(PendingPayment), json!(Active)].contains(&session["status"]);
    u32::from(is_load && session["mitra_id"] == json!(mitra))
}

fn ends_at(session: &Value) -> Option<DateTime<Utc>> {
    session["expires_at"].as_str().map(|at| at.parse().expect("a time"))
}

/// A customer's socket, and the count it showed last.
struct Beacon {
    client: Client,
    shown: Value,
}

impl Beacon {
    async fn at(node: &Node) -> Self {
        let mut client = node.dial_customer().await;
        let shown = client.frame("availability").await;
        Self { client, shown }
    }

    async fn comes_to(&mut self, available: u32) {
        while self.shown["available"] != available {
            self.shown = self.client.frame("availability").await;
        }
        assert_eq!(self.shown["any"], available > 0);
    }
}

/// What a mitra's socket is told until it goes offline: the loads, in order.
async fn loads_told(socket: &mut Client) -> Vec<u64> {
    let mut loads = Vec::new();
    loop {
        let status = socket.frame("status").await;
        if status["online"] == false {
            return loads;
        }
        assert_eq!(status["reason"], json!(StatusReason::Session), "{status}");
        loads.push(status["sessions"].as_u64().expect("a number"));
    }
}

async fn each_call_from_each_state_with_its_effects(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    let mut beacon = Beacon::at(&node).await;
    let calls = table(MitraId(Uuid::nil()), MitraId(Uuid::nil())).len();
    for (at, from) in SessionStatus::ALL.into_iter().enumerate() {
        for n in 0..calls {
            let (anna, budi) = (node.online_mitra().await, node.online_mitra().await);
            let (call, body, follows) = table(anna.id, budi.id).swap_remove(n);
            let words = format!("{call} {body} from {from}");
            let session = desk.standing(from, anna.id).await;
            let before = desk.session(session).await;
            let mut sockets = [node.dial_mitra(&anna).await, node.dial_mitra(&budi).await];
            let began = node.store().now().await.unwrap();
            let reply = desk.does(session, call, body).await;
            let after = desk.session(session).await;
            match follows.get(at).copied().flatten() {
                None => {
                    assert_eq!(reply.problem(), refused(409, "wrong_state"), "{words}");
                    assert_eq!(after, before, "{words}");
                }
                Some((status, whose, end)) => {
                    assert_eq!((reply.status.as_u16(), reply.json()), (200, after.clone()), "{words}");
                    let mitra = match whose {
                        Whose::Anna => json!(anna.id),
                        Whose::Budi => json!(budi.id),
                        Whose::Nobody => Value::Null,
                    };
                    assert_eq!((&after["status"], &after["mitra_id"]), (&json!(status), &mitra), "{words}");
                    let ends = ends_at(&after);
                    match end {
                        End::Kept => assert_eq!(ends, ends_at(&before), "{words}"),
                        End::None => assert_eq!(ends, None, "{words}"),
                        End::LaterByAMinute => {
                            assert_eq!(ends, ends_at(&before).map(|at| at + Duration::from_secs(60)), "{words}");
                        }
                        End::Fresh => {
                            let runs = ends.expect(&words) - began;
                            // The embedded store keeps whole milliseconds.
                            assert!((3_599_999..3_660_000).contains(&runs.num_milliseconds()), "{words}: {runs}");
                        }
                    }
                }
            }
            for mitra in [&anna, &budi] {
                let row = in_agreement(&world, &node, mitra.id).await;
                assert_eq!(row.sessions, load(&after, mitra.id), "{words}");
            }
            beacon.comes_to(2 - load(&after, anna.id) - load(&after, budi.id)).await;
            for (mitra, socket) in [&anna, &budi].into_iter().zip(&mut sockets) {
                let (was, is) = (load(&before, mitra.id), load(&after, mitra.id));
                assert_eq!(socket.first_status["sessions"], was, "{words}");
                node.presence().go_offline(mitra.id, Actor::Mitra).await.unwrap();
                let expected: Vec<u64> = if was == is { Vec::new() } else { vec![is.into()] };
                assert_eq!(loads_told(socket).await, expected, "{words}");
            }
            beacon.comes_to(0).await;
        }
    }
}

async fn a_transition_reaches_sockets_on_every_node(world: World) {
    let (here, there) = (world.node().await, world.node().await);
    let desks = [Desk::at(&here), Desk::at(&there)];
    let (anna, budi) = (here.online_mitra().await, there.online_mitra().await);
    let mut annas = [here.dial_mitra(&anna).await, there.dial_mitra(&anna).await];
    let mut budis = [here.dial_mitra(&budi).await, there.dial_mitra(&budi).await];
    let session = desks[0].searching().await;
    assert_eq!(desks[0].accept(session, anna.id, Payment::Pending, LONG).await.status.as_u16(), 200);
    for socket in &mut annas {
        told(socket, 1).await;
    }
    // Neither of these moves a load; the next news is the reroute, from the other node.
    desks[0].did(session, "confirm-payment", json!({})).await;
    desks[0].did(session, "extend", json!({ "seconds": 10 })).await;
    desks[1].did(session, "reroute", json!({ "mitra_id": budi.id })).await;
    for socket in &mut annas {
        let status = told(socket, 0).await;
        assert_eq!(status["available"], true);
    }
    for socket in &mut budis {
        let status = told(socket, 1).await;
        assert_eq!((&status["available"], &status["reachable"]), (&json!(false), &json!(true)));
    }
    desks[0].did(session, "end", json!({})).await;
    for socket in &mut budis {
        told(socket, 0).await;
    }
    for mitra in [&anna, &budi] {
        in_agreement(&world, &here, mitra.id).await;
        in_agreement(&world, &there, mitra.id).await;
    }
}

async fn the_same_id_again_is_the_same_session_however_often_at_once(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    let (id, customer) = (Uuid::new_v4(), Uuid::new_v4());
    let body = json!({ "id": id, "customer_id": customer });
    let replies = join_all((0..10).map(|_| desk.post("", body.clone()))).await;
    let sessions: Vec<Value> = replies.into_iter().map(done).collect();
    assert!(sessions.iter().all(|session| *session == sessions[0]), "{sessions:?}");
    assert_eq!((id_in(&sessions[0]["id"]), id_in(&sessions[0]["customer_id"])), (id, customer));
    // As it is by now, whatever became of it.
    let mitra = node.online_mitra().await;
    let taken = done(desk.accept(id, mitra.id, Payment::Paid, LONG).await);
    assert_eq!(done(desk.post("", body).await), taken);
    let one = desk.searching().await;
    assert_ne!(one, desk.searching().await, "without an id each is its own");
}

async fn an_id_of_another_customer_is_a_conflict(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    let session = desk.searching().await;
    let before = desk.session(session).await;
    let reply = desk.post("", json!({ "id": session, "customer_id": Uuid::new_v4() })).await;
    assert_eq!(reply.problem(), refused(409, "wrong_state"));
    let detail = reply.json()["detail"].clone();
    assert_eq!(detail, "a session of another customer has this id; choose another one, or leave it out");
    assert_eq!(desk.session(session).await, before);
}

/// Its answer was lost: the repetition needs no room, and nobody online.
async fn the_same_accept_again_is_the_same_answer(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    let mitra = node.online_mitra().await;
    let session = desk.searching().await;
    let replies = join_all((0..10).map(|_| desk.accept(session, mitra.id, Payment::Pending, LONG))).await;
    let answers: Vec<Value> = replies.into_iter().map(done).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    node.presence().go_offline(mitra.id, Actor::Mitra).await.unwrap();
    let fence = in_agreement(&world, &node, mitra.id).await.fence;
    assert_eq!(done(desk.accept(session, mitra.id, Payment::Pending, LONG).await), answers[0]);
    let paid = desk.did(session, "confirm-payment", json!({})).await;
    assert_eq!(done(desk.accept(session, mitra.id, Payment::Pending, LONG).await), paid);
    let row = in_agreement(&world, &node, mitra.id).await;
    assert_eq!((row.sessions, row.fence), (1, fence));
}

async fn the_record_names_the_session_the_caller_and_the_reason(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    let (anna, budi) = (node.online_mitra().await, node.online_mitra().await);
    let session = desk.taken(anna.id, Payment::Pending, LONG).await;
    desk.did(session, "confirm-payment", json!({})).await;
    desk.did(session, "extend", json!({ "seconds": 1 })).await;
    desk.did(session, "reroute", json!({ "mitra_id": budi.id })).await;
    desk.did(session, "end", json!({ "reason": "customer left" })).await;
    let expected: [(&Mitra, &[(&str, &str)]); 2] = [
        (&anna, &[("session_rerouted", "rerouted"), ("session_confirmed", "paid"), ("session_started", "accepted")]),
        (&budi, &[("session_ended", "customer left"), ("session_started", "rerouted")]),
    ];
    for (mitra, happened) in expected {
        let answer = node.good(&format!("/internal/mitras/{}", mitra.id), &node.token(Role::Dashboard)).await;
        let events = answer["events"].as_array().unwrap();
        for (event, (kind, reason)) in events.iter().zip(happened) {
            assert_eq!(
                (&event["kind"], &event["reason"], &event["actor"], &event["session_id"]),
                (&json!(kind), &json!(reason), &json!(Actor::Service), &json!(session)),
                "{event}"
            );
        }
        assert_eq!(events[happened.len()]["session_id"], Value::Null, "the next is its coming online");
    }
}

async fn a_session_is_as_the_contract_writes_it(world: World) {
    let node = world.node().await;
    let desk = Desk::at(&node);
    let session = desk.session(desk.searching().await).await;
    let fields: Vec<&str> = session.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["created_at", "customer_id", "expires_at", "id", "mitra_id", "status"]);
    assert_eq!((&session["mitra_id"], &session["expires_at"]), (&Value::Null, &Value::Null));
    let mitra = node.online_mitra().await;
    let session = desk.session(desk.taken(mitra.id, Payment::Paid, 1.5).await).await;
    for time in ["created_at", "expires_at"] {
        let text = session[time].as_str().unwrap();
        assert!(text.len() == 24 && text.ends_with('Z') && text.parse::<DateTime<Utc>>().is_ok(), "{text}");
    }
    // A dashboard may look.
    let path = format!("/internal/sessions/{}", session["id"].as_str().unwrap());
    eventually("read", async || {
        let seen = node.good(&path, &node.token(Role::Dashboard)).await;
        (seen["id"] == session["id"]).then_some(())
    })
    .await;
}
