//! Why a use case was refused; the edges turn these into statuses and close codes.

use crate::{domain::WrongState, mirror::MirrorError, protocol::ErrorCode, store::StoreError};

/// Why a use case was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresenceError {
    /// No mitra has this id.
    #[error("no mitra has this id")]
    UnknownMitra,
    /// Staff deactivated the mitra.
    #[error("this mitra is deactivated")]
    Deactivated,
    /// The sign-in behind the token is unknown, expired or revoked.
    #[error("the sign-in behind this token was revoked; sign in again")]
    Revoked,
    /// No session has this id.
    #[error("no session has this id")]
    UnknownSession,
    /// The session's status does not allow it.
    #[error("{0}, and this is not done in that state")]
    WrongState(WrongState),
    /// A session of another customer has this id.
    #[error("a session of another customer has this id; choose another one, or leave it out")]
    SessionIdTaken,
    /// The mitra has as many sessions as it may have.
    #[error("this mitra has no room for another session")]
    CapacityExceeded,
    /// The mitra is offline or deactivated.
    #[error("this mitra is not online, or deactivated")]
    NotAvailable,
    /// A value breaks a rule; the text says which.
    #[error("{0}")]
    Invalid(String),
    /// The store holds what this version cannot read; the log says which row.
    #[error("the store holds what cannot be read here; the log of this node says which row")]
    Unreadable,
    /// The store (and where it would do, the mirror) cannot be asked now.
    #[error("{0}")]
    Unavailable(String),
}

impl PresenceError {
    /// The word that a client is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownMitra => ErrorCode::UnknownMitra,
            Self::Deactivated => ErrorCode::Deactivated,
            Self::Revoked => ErrorCode::Revoked,
            Self::UnknownSession => ErrorCode::UnknownSession,
            Self::WrongState(_) | Self::SessionIdTaken => ErrorCode::WrongState,
            Self::CapacityExceeded => ErrorCode::CapacityExceeded,
            Self::NotAvailable => ErrorCode::NotAvailable,
            Self::Invalid(_) => ErrorCode::BadRequest,
            Self::Unreadable => ErrorCode::Internal,
            Self::Unavailable(_) => ErrorCode::Unavailable,
        }
    }
}

impl From<StoreError> for PresenceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::UnknownMitra(_) => Self::UnknownMitra,
            StoreError::Deactivated(_) => Self::Deactivated,
            StoreError::UnknownSession(_) => Self::UnknownSession,
            StoreError::WrongState(state) => Self::WrongState(state),
            StoreError::SessionIdTaken(_) => Self::SessionIdTaken,
            StoreError::CapacityExceeded(_) => Self::CapacityExceeded,
            StoreError::NotAvailable(_) => Self::NotAvailable,
            StoreError::Invalid(text) => Self::Invalid(text),
            StoreError::Unreadable(_) => Self::Unreadable,
            busy @ StoreError::Busy => Self::Unavailable(busy.to_string()),
            StoreError::Unavailable(why) => {
                // The cause is for the log, where the failure is counted; a client learns that it may try again.
                tracing::debug!(%why, "the store did not answer");
                Self::Unavailable("the store cannot be reached now; try again shortly".to_owned())
            }
        }
    }
}

impl From<MirrorError> for PresenceError {
    fn from(error: MirrorError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
