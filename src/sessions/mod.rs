//! Chat sessions: their life from searching to the end, and the time they have.
//!
//! The store enforces assignment, in one transaction under its lock; here the order is kept: commit, then propagate the
//! mitras concerned to the mirror and to their sockets. The state machine is in `domain`, the calls are in `api`,
//! `app` starts the one routine that expires what ran out.

mod expiry;

use std::sync::Arc;

use tokio::sync::Notify;

use crate::{
    domain::{Cause, ChatSession, CustomerId, SessionAction, SessionId, StatusReason},
    replication::{PresenceError, Propagator, Replication, SessionChange, StoreClient},
};

/// The use cases of sessions. Shared as `Arc<Sessions>`.
pub struct Sessions {
    store: StoreClient,
    propagator: Arc<Propagator>,
    /// A session's time may end earlier than the timer believes.
    sooner: Notify,
}

impl Sessions {
    /// Sessions over these parts. Nothing expires until [`Sessions::keep_time`] is driven.
    pub fn new(replication: &Replication) -> Self {
        Self {
            store: replication.store.clone(),
            propagator: Arc::clone(&replication.propagator),
            sooner: Notify::new(),
        }
    }

    /// A session that searches; a missing customer is created. The same id again gives the session as it is now.
    ///
    /// # Errors
    /// The id is another customer's; the store cannot be asked.
    pub async fn create(&self, id: Option<SessionId>, customer: CustomerId) -> Result<ChatSession, PresenceError> {
        Ok(self.store.create_session(id, customer).await?.0)
    }

    /// One session.
    ///
    /// # Errors
    /// Unknown session; the store cannot be asked.
    pub async fn get(&self, id: SessionId) -> Result<ChatSession, PresenceError> {
        self.store.session(id).await?.ok_or(PresenceError::UnknownSession)
    }

    /// Does this to a session and carries the new loads of its mitras on. Repeats that the state machine knows change
    /// nothing and get the same answer.
    ///
    /// # Errors
    /// Unknown session or mitra; a wrong state; a mitra who is not there or has no room; the store cannot be asked.
    pub async fn change(
        &self,
        id: SessionId,
        action: &SessionAction,
        cause: &Cause,
    ) -> Result<ChatSession, PresenceError> {
        let change = self.store.change_session(id, action, cause).await?;
        if matches!(action, SessionAction::Accept { .. }) {
            self.sooner.notify_one();
        }
        let session = change.session.clone();
        self.carry(vec![change]).await;
        Ok(session)
    }

    async fn carry(&self, changes: Vec<SessionChange>) {
        let mitras = changes.into_iter().filter(|change| change.changed).flat_map(|change| change.mitras).collect();
        self.propagator.propagate_rows(mitras, StatusReason::Session).await;
    }
}
