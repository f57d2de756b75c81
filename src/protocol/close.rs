//! Close codes with their reasons. 4000 to 4499 come back (with backoff; after 4401 with a new token), 4500 to 4999 do
//! not; 1011, 1012 and 1013 come back. RFC 6455 section 7.4 reserves 4000 to 4999 for applications.

use std::borrow::Cow;

/// Why a socket is closed: a code for programs and a short reason for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The WebSocket close code.
    pub code: u16,
    /// A word or two; at most 123 bytes (RFC 6455 section 5.5).
    pub reason: Cow<'static, str>,
}

macro_rules! closes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $reason:literal;)*) => {
        impl Close {
            $($(#[$doc])* pub const $name: Self = Self { code: $code, reason: Cow::Borrowed($reason) };)*
        }
    };
}

closes! {
    /// Broken framing.
    PROTOCOL_ERROR = 1002, "protocol_error";
    /// A binary frame.
    BINARY = 1003, "binary_not_supported";
    /// Text that is not UTF-8.
    INVALID_UTF8 = 1007, "invalid_utf8";
    /// A frame over the size limit.
    TOO_LARGE = 1009, "too_large";
    /// A message in too many fragments.
    FRAGMENTS = 1009, "too_many_fragments";
    /// A message whose last fragment did not come in time.
    UNFINISHED = 1009, "unfinished_message";
    /// Our fault.
    INTERNAL = 1011, "internal";
    /// The node is stopping.
    RESTART = 1012, "restart";
    /// The node cannot serve this socket now: a store is away or a limit of the machine is reached.
    OVERLOADED = 1013, "unavailable";
    /// No, bad or unknown token.
    UNAUTHORIZED = 4401, "unauthorized";
    /// The token's life ended without a `refresh`.
    TOKEN_EXPIRED = 4401, "token_expired";
    /// Nothing was heard for the suspect period, pings unanswered.
    SILENT = 4408, "silent";
    /// The first message did not come in time.
    AUTH_TIMEOUT = 4408, "auth_timeout";
    /// The client does not read.
    STALLED = 4410, "stalled";
    /// Too many messages, or too many bytes.
    RATE_LIMITED = 4429, "rate_limited";
    /// The first message was not `auth`, or too many messages could not be understood.
    BAD_MESSAGE = 4500, "bad_message";
    /// The sign-in behind the token was revoked.
    REVOKED = 4501, "revoked";
    /// An operator or the backend closed the subject's sockets.
    DISCONNECTED = 4502, "disconnected";
    /// The role may not use this path.
    FORBIDDEN = 4503, "forbidden";
    /// The token's subject is not a mitra.
    UNKNOWN_MITRA = 4503, "unknown_mitra";
    /// Staff deactivated the mitra.
    DEACTIVATED = 4503, "deactivated";
    /// A newer socket of the same mitra took its place.
    REPLACED = 4509, "replaced";
}

impl Close {
    /// Whether the client is not to come back.
    pub fn is_final(&self) -> bool {
        (4_500..5_000).contains(&self.code)
    }

    /// [`Close::DISCONNECTED`] with a reason of the caller's, cut to what a close frame can carry.
    pub fn disconnected(reason: &str) -> Self {
        const MAX_REASON_BYTES: usize = 123;
        let mut end = reason.len().min(MAX_REASON_BYTES);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        if end == 0 {
            return Self::DISCONNECTED;
        }
        Self { code: Self::DISCONNECTED.code, reason: Cow::Owned(reason[..end].to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let close = Close::disconnected(&"é".repeat(100));
        assert_eq!(close.reason.len(), 122);
        assert_eq!(Close::disconnected("").reason, "disconnected");
    }
}
