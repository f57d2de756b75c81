//! The backend of the demo: customers who ask for a session, and what becomes of it, as a real backend drives it.

use std::{ops::Range, sync::Arc, time::Duration};

use tokio::time::sleep;
use uuid::Uuid;

use super::{between, chance, fleet::is_simulated};
use crate::{
    domain::{Actor, Cause, ChatSession, CustomerId, MitraId, Payment, SessionAction, SessionId},
    lifecycle::Lifecycle,
    presence::{Presence, PresenceError},
    sessions::Sessions,
};

/// A customer at a time for so many mitras: with their pauses, about a third of the mitras at work is busy.
const MITRAS_PER_CUSTOMER: usize = 3;
/// Seconds that a session is given.
const DURATION: Range<f64> = 15.0..90.0;
/// Seconds between a customer's sessions.
const PAUSE: Range<f64> = 1.0..8.0;
/// How often somebody available is looked for before the customer gives up.
const ATTEMPTS: u32 = 10;

/// The simulated backend. It knows sessions and asks who is available, as one does over REST.
pub struct Backend {
    pub presence: Arc<Presence>,
    pub sessions: Arc<Sessions>,
    pub lifecycle: Lifecycle,
}

impl Backend {
    /// Customers come and go until the server stops, as many as this fleet has work for.
    pub fn start(self, mitras: usize) {
        let lifecycle = self.lifecycle.clone();
        let backend = Arc::new(self);
        for _ in 0..mitras.div_ceil(MITRAS_PER_CUSTOMER) {
            let backend = Arc::clone(&backend);
            lifecycle.spawn_until_stop(async move {
                loop {
                    sleep(between(PAUSE)).await;
                    if let Err(error) = backend.serve().await {
                        tracing::debug!(%error, "a simulated session went another way");
                    }
                }
            });
        }
    }

    /// One customer's session, from the asking to its end.
    async fn serve(&self) -> Result<(), PresenceError> {
        let session = self.sessions.create(None, CustomerId(Uuid::new_v4())).await?.id;
        let payment = if chance(0.4) { Payment::Pending } else { Payment::Paid };
        let duration = between(DURATION);
        let take = |mitra| SessionAction::Accept { mitra, payment, duration };
        if !self.assign(session, take).await? {
            return self.does(session, &SessionAction::End, "nobody available").await.map(drop);
        }
        if payment == Payment::Pending {
            sleep(between(2.0..8.0)).await;
            if chance(0.15) {
                // Never paid: the time runs out.
                return Ok(());
            }
            self.does(session, &SessionAction::ConfirmPayment, "paid").await?;
        }
        sleep(duration.mul_f64(0.4)).await;
        let mut left = duration.mul_f64(0.5);
        if chance(0.2) {
            let by = between(10.0..30.0);
            self.does(session, &SessionAction::Extend { by }, "extended").await?;
            left += by;
        }
        if chance(0.15) {
            self.assign(session, |mitra| SessionAction::Reroute { to: Some(mitra) }).await?;
        }
        sleep(left).await;
        if chance(0.6) {
            self.does(session, &SessionAction::End, "said goodbye").await?;
        }
        Ok(())
    }

    /// Finds somebody available and gives the session to them; whether somebody took it. Who was found may be gone or busy by
    /// the time of asking: then the next one.
    async fn assign(
        &self,
        session: SessionId,
        action: impl Fn(MitraId) -> SessionAction,
    ) -> Result<bool, PresenceError> {
        for _ in 0..ATTEMPTS {
            let found = self.presence.find_available(20).await?.value.mitras;
            // A person who tries the mitra's page is left to see what the button does.
            if let Some(mitra) = found.iter().find(|mitra| is_simulated(mitra.id)) {
                match self.does(session, &action(mitra.id), "assigned").await {
                    Ok(_) => return Ok(true),
                    Err(PresenceError::CapacityExceeded | PresenceError::NotAvailable) => {}
                    Err(other) => return Err(other),
                }
            }
            sleep(Duration::from_secs(1)).await;
        }
        Ok(false)
    }

    async fn does(&self, id: SessionId, action: &SessionAction, why: &str) -> Result<ChatSession, PresenceError> {
        self.sessions.change(id, action, &Cause::new(Actor::Service, why)).await
    }
}
