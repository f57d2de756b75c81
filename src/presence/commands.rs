//! What mitras, operators and services command: each one transaction in the store, then the mirror.

use std::time::Duration;

use super::{MitraView, Presence, PresenceError};
use crate::{
    domain::{Actor, Cause, MitraId, StatusChange, StatusReason},
    hub::Holder,
};

impl Presence {
    /// Goes online; again is only a heartbeat.
    ///
    /// # Errors
    /// Unknown or deactivated mitra; the store cannot be asked.
    pub async fn go_online(&self, id: MitraId, actor: Actor) -> Result<StatusChange, PresenceError> {
        let cause = Cause::new(actor, "command");
        let _writing = self.replication.propagator.writing(vec![id]);
        let written = self.replication.store.set_online(id, true, &cause).await?;
        // Going online is a heartbeat, and the store has just stamped it.
        self.replication.propagator.propagate_row(&written.row, Some(Duration::ZERO), StatusReason::Command).await;
        Ok(StatusChange::of(&written.row, StatusReason::Command))
    }

    /// Goes offline; again changes nothing.
    ///
    /// # Errors
    /// Unknown mitra; the store cannot be asked.
    pub async fn go_offline(&self, id: MitraId, actor: Actor) -> Result<StatusChange, PresenceError> {
        let cause = Cause::new(actor, "command");
        let _writing = self.replication.propagator.writing(vec![id]);
        let written = self.replication.store.set_online(id, false, &cause).await?;
        self.replication.propagator.propagate_row(&written.row, None, StatusReason::Command).await;
        Ok(StatusChange::of(&written.row, StatusReason::Command))
    }

    /// Deactivates (offline, sign-ins revoked, sockets closed on every node) or reactivates (still offline).
    ///
    /// # Errors
    /// Unknown mitra; the store cannot be asked.
    pub async fn set_active(&self, id: MitraId, active: bool, cause: Cause) -> Result<MitraView, PresenceError> {
        let _writing = self.replication.propagator.writing(vec![id]);
        let written = self.replication.store.set_active(id, active, &cause).await?;
        self.replication.propagator.propagate_row(&written.row, None, StatusReason::Deactivated).await;
        let reason = if written.changed { StatusReason::Deactivated } else { StatusReason::Initial };
        Ok(self.view(&written.row, reason).await)
    }

    /// Creates or updates a mitra.
    ///
    /// # Errors
    /// A value that breaks a constraint; the store cannot be asked.
    pub async fn put_mitra(
        &self,
        id: MitraId,
        display_name: &str,
        max_sessions: Option<u32>,
        actor: Actor,
    ) -> Result<MitraView, PresenceError> {
        let cause = Cause::new(actor, "put");
        let _writing = self.replication.propagator.writing(vec![id]);
        let written = self.replication.store.put_mitra(id, display_name, max_sessions, &cause).await?;
        self.replication
            .propagator
            .propagate_row(&written.row, written.row.heartbeat_age, StatusReason::External)
            .await;
        let view = self.view(&written.row, StatusReason::External).await;
        Ok(MitraView { display_name: Some(display_name.to_owned()), ..view })
    }

    /// Whether a mitra's socket or request may come in, and what is true of the mitra. Deactivation is checked before the
    /// sign-in. Register the socket before this, so that no order to close slips between.
    ///
    /// # Errors
    /// Unknown or deactivated mitra; revoked sign-in; the store cannot be asked.
    pub async fn admit_mitra(&self, holder: Holder) -> Result<StatusChange, PresenceError> {
        let id = MitraId(holder.subject.0);
        let row = self.replication.store.mitra(id).await?.ok_or(PresenceError::UnknownMitra)?;
        if !row.active {
            return Err(PresenceError::Deactivated);
        }
        self.admit(holder).await?;
        Ok(StatusChange::of(&row, StatusReason::Initial))
    }

    /// Whether the sign-in behind a token stands. A token without one asks nobody.
    ///
    /// # Errors
    /// Revoked sign-in; the store cannot be asked.
    pub async fn admit(&self, holder: Holder) -> Result<(), PresenceError> {
        let Some(session) = holder.session else { return Ok(()) };
        let known = self.replication.store.auth_session(session).await?;
        match known {
            Some(signed_in)
                if signed_in.valid && signed_in.subject == holder.subject && signed_in.role == holder.role.as_str() =>
            {
                Ok(())
            }
            _ => Err(PresenceError::Revoked),
        }
    }

    /// Removes presence events older than `keep`, a bounded number at once, until none are left. Returns how many went.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn prune_events(&self, keep: Duration) -> Result<u64, PresenceError> {
        const AT_ONCE: u32 = 10_000;
        let mut removed = 0;
        loop {
            let of_round = self.replication.store.prune_events(keep, AT_ONCE).await?;
            removed += of_round;
            if of_round < u64::from(AT_ONCE) {
                return Ok(removed);
            }
        }
    }

    /// Lets a sweep rest on every node for so long from now; zero ends the rest.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn pause_sweep(&self, sweep: &str, rest: Duration) -> Result<(), PresenceError> {
        self.replication.store.pause_sweep(sweep, rest).await
    }

    /// The sweeps that rest, each with what is left of its rest.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn paused_sweeps(&self) -> Result<Vec<(String, Duration)>, PresenceError> {
        self.replication.store.paused_sweeps().await
    }
}
