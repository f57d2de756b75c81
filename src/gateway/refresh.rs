//! A new token on a live socket. It is checked by a task of its own: the token's key and the sign-in
//! may have to be fetched, and the socket's pings are answered meanwhile.

use std::{future::pending, sync::Arc};

use tokio::sync::oneshot;
use tracing::Instrument;

use super::{
    Gateway,
    session::{Session, expiry, socket_span},
    socket::End,
};
use crate::{
    auth::Principal,
    domain::Role,
    hub::Connection,
    presence::PresenceError,
    protocol::{Close, ErrorCode, ack},
};

const NOT_GOOD: &str = "the new token must be good and keep `sub` and `role`";

/// A refresh that is being checked.
pub(super) struct Refreshing {
    id: Option<String>,
    answer: oneshot::Receiver<Checked>,
}

/// What became of the new token.
enum Checked {
    Accepted(Principal),
    NotGood,
    /// The sign-in behind it, or the mitra, may not stay.
    Ends(Close),
    /// It could not be checked; the older one stays in force.
    Unavailable(String),
}

impl Session {
    /// Begins to check a new token; one at a time.
    pub(super) async fn begin_refresh(&mut self, id: Option<String>, token: String) -> Result<(), End> {
        if self.refreshing.is_some() {
            let text = "an earlier refresh is not answered yet";
            return self.send_error(id.as_deref(), ErrorCode::RateLimited, text).await;
        }
        let (tell, answer) = oneshot::channel();
        let (gateway, current) = (Arc::clone(&self.gateway), self.principal.clone());
        let connection = self.registration.connection();
        let checking = async move {
            // The session may be gone.
            let _gone = tell.send(check(&gateway, &connection, &current, &token).await);
        };
        self.gateway.lifecycle.spawn(checking.instrument(socket_span(self.id)));
        self.refreshing = Some(Box::new(Refreshing { id, answer }));
        Ok(())
    }

    /// Tells the client what became of its new token, and uses it from now on.
    pub(super) async fn end_refresh(&mut self, refreshed: Refreshed) -> Result<(), End> {
        self.refreshing = None;
        let Refreshed { id, checked } = refreshed;
        match checked {
            Checked::Accepted(newer) => {
                self.expires_ms = expiry(&newer, self.gateway.hub.now_ms());
                self.warned_of_expiry = false;
                self.principal = newer;
                self.send(ack(id.as_deref())).await
            }
            Checked::NotGood => self.send_error(id.as_deref(), ErrorCode::Unauthorized, NOT_GOOD).await,
            Checked::Ends(close) => Err(close.into()),
            Checked::Unavailable(why) => self.send_error(id.as_deref(), ErrorCode::Unavailable, &why).await,
        }
    }
}

/// A refresh that was checked.
pub(super) struct Refreshed {
    id: Option<String>,
    checked: Checked,
}

/// Completes when the refresh at hand is checked; never when there is none.
pub(super) async fn refreshed(refreshing: &mut Option<Box<Refreshing>>) -> Refreshed {
    let Some(at_hand) = refreshing else { return pending().await };
    // The task panicked.
    let lost = |_| Checked::Unavailable("the refresh came to no end; send it again".to_owned());
    let checked = (&mut at_hand.answer).await.unwrap_or_else(lost);
    Refreshed { id: at_hand.id.take(), checked }
}

async fn check(gateway: &Gateway, connection: &Connection, current: &Principal, token: &str) -> Checked {
    let newer = gateway.verifier.verify(token).await.ok().filter(|newer| current.may_become(newer));
    let Some(newer) = newer else { return Checked::NotGood };
    // The socket stands on the sign-in before it is checked, so that no revocation slips between.
    let older = connection.session();
    connection.stand_on(newer.session_id);
    let holder = connection.holder();
    let admitted = match holder.role {
        Role::Mitra => gateway.presence.admit_mitra(holder).await.map(|_| ()),
        _ => gateway.presence.admit(holder).await,
    };
    match admitted {
        Ok(()) => Checked::Accepted(newer),
        Err(PresenceError::Revoked) => Checked::Ends(Close::REVOKED),
        Err(PresenceError::Deactivated) => Checked::Ends(Close::DEACTIVATED),
        Err(PresenceError::UnknownMitra) => Checked::Ends(Close::UNKNOWN_MITRA),
        Err(error) => {
            connection.stand_on(older);
            Checked::Unavailable(error.to_string())
        }
    }
}
