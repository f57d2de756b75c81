//! Chat sessions from outside: over REST and by plain SQL, with every effect in store, mirror, pushed snapshot and sockets.

mod bad_input;
mod capacity;
mod expiry;
mod guide;
mod law;
mod lifecycle;
mod sql;
mod writers;

use hadir::domain::{MitraId, Payment, Role, SessionStatus};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Client, Node, eventually, node::Reply};

/// The backend that pairs customers with mitras, as it calls a node.
pub struct Desk<'a> {
    node: &'a Node,
    token: String,
}

/// Long enough that nothing expires during a test.
pub const LONG: f64 = 3_600.0;

impl<'a> Desk<'a> {
    pub fn at(node: &'a Node) -> Self {
        Self { node, token: node.token(Role::Service) }
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.node.post(&format!("/internal/sessions{path}"), &self.token, body).await
    }

    pub async fn does(&self, session: Uuid, call: &str, body: Value) -> Reply {
        self.post(&format!("/{session}/{call}"), body).await
    }

    /// A call that must succeed.
    pub async fn did(&self, session: Uuid, call: &str, body: Value) -> Value {
        done(self.does(session, call, body).await)
    }

    /// A new session of a new customer.
    pub async fn searching(&self) -> Uuid {
        let session = done(self.post("", json!({ "customer_id": Uuid::new_v4() })).await);
        assert_eq!(session["status"], json!(SessionStatus::Searching));
        id_in(&session["id"])
    }

    pub async fn accept(&self, session: Uuid, mitra: MitraId, payment: Payment, seconds: f64) -> Reply {
        let body = json!({ "mitra_id": mitra, "payment": payment, "duration_seconds": seconds });
        self.does(session, "accept", body).await
    }

    /// A new session that this mitra has taken.
    pub async fn taken(&self, mitra: MitraId, payment: Payment, seconds: f64) -> Uuid {
        let session = self.searching().await;
        done(self.accept(session, mitra, payment, seconds).await);
        session
    }

    pub async fn session(&self, session: Uuid) -> Value {
        self.node.good(&format!("/internal/sessions/{session}"), &self.token).await
    }

    pub async fn status_of(&self, session: Uuid) -> SessionStatus {
        self.session(session).await["status"].as_str().expect("a word").parse().expect("a status")
    }

    /// A new session that stands so; this mitra has or had it where somebody does.
    pub async fn standing(&self, status: SessionStatus, mitra: MitraId) -> Uuid {
        let session = match status {
            SessionStatus::Searching => self.searching().await,
            SessionStatus::PendingPayment => self.taken(mitra, Payment::Pending, LONG).await,
            SessionStatus::Active => self.taken(mitra, Payment::Paid, LONG).await,
            SessionStatus::Ended => {
                let session = self.taken(mitra, Payment::Paid, LONG).await;
                self.did(session, "end", json!({})).await;
                session
            }
            SessionStatus::Expired => {
                let session = self.taken(mitra, Payment::Paid, 0.001).await;
                eventually("expired", async || (self.status_of(session).await == SessionStatus::Expired).then_some(()))
                    .await;
                session
            }
            SessionStatus::Cancelled => {
                let session = self.searching().await;
                self.did(session, "end", json!({})).await;
                session
            }
        };
        assert_eq!(self.status_of(session).await, status);
        session
    }
}

/// The answer of a call that must succeed.
pub fn done(reply: Reply) -> Value {
    assert_eq!(reply.status.as_u16(), 200, "{}", reply.text);
    reply.json()
}

pub fn id_in(value: &Value) -> Uuid {
    value.as_str().expect("an id").parse().expect("a UUID")
}

/// Status and code of a refusal.
pub fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// The next status of a mitra's socket, which must be because of a session.
pub async fn told(socket: &mut Client, sessions: u32) -> Value {
    let status = socket.frame("status").await;
    assert_eq!(status["reason"], json!(hadir::domain::StatusReason::Session), "{status}");
    assert_eq!(status["sessions"], sessions, "{status}");
    status
}
