//! The one list of error codes, shared by error frames and `application/problem+json`.

/// What went wrong, as a stable word for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    Unauthorized,
    Forbidden,
    Deactivated,
    Revoked,
    UnknownMitra,
    UnknownSession,
    CapacityExceeded,
    NotAvailable,
    WrongState,
    BadRequest,
    BadMessage,
    RateLimited,
    TooManySockets,
    TokenExpiring,
    Unavailable,
    Overloaded,
    Internal,
    NotFound,
    MethodNotAllowed,
    TooLarge,
}

impl ErrorCode {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Deactivated => "deactivated",
            Self::Revoked => "revoked",
            Self::UnknownMitra => "unknown_mitra",
            Self::UnknownSession => "unknown_session",
            Self::CapacityExceeded => "capacity_exceeded",
            Self::NotAvailable => "not_available",
            Self::WrongState => "wrong_state",
            Self::BadRequest => "bad_request",
            Self::BadMessage => "bad_message",
            Self::RateLimited => "rate_limited",
            Self::TooManySockets => "too_many_sockets",
            Self::TokenExpiring => "token_expiring",
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
            Self::Internal => "internal",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TooLarge => "too_large",
        }
    }

    /// Whether the same request may succeed later without being changed.
    pub fn retryable(self) -> bool {
        matches!(self, Self::RateLimited | Self::TooManySockets | Self::Unavailable | Self::Overloaded | Self::Internal)
    }
}
