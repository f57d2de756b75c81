//! Why a use case was refused; the edges turn these into statuses and close codes.

use crate::store::StoreError;

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
    /// A value breaks a rule; the text says which.
    #[error("{0}")]
    Invalid(String),
    /// The store (and where it would do, the mirror) cannot be asked now.
    #[error("{0}")]
    Unavailable(String),
}

impl From<StoreError> for PresenceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::UnknownMitra(_) => Self::UnknownMitra,
            StoreError::Deactivated(_) => Self::Deactivated,
            refused @ (StoreError::UnknownSession(_)
            | StoreError::WrongState(_)
            | StoreError::CapacityExceeded(_)
            | StoreError::NotAvailable(_)) => Self::Invalid(refused.to_string()),
            StoreError::Invalid(text) => Self::Invalid(text),
            StoreError::Unavailable(why) => {
                // The cause is for the log, where the failure is counted; a client learns that it may try again.
                tracing::debug!(%why, "the store did not answer");
                Self::Unavailable("the store cannot be reached now; try again shortly".to_owned())
            }
        }
    }
}
