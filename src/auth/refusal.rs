//! Why a token is refused. The client hears one word; the owner of the token reads the sentence in
//! the log and from `hadir token --check`.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::verifier::MAX_TOKEN_BYTES;

/// At most one log line in this time, however many tokens are refused.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// Longest text of a token that a reason repeats, characters.
const LONGEST_QUOTE: usize = 64;

/// A token is not good, and why. Never shown to the client, so that it cannot learn which part to
/// improve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Refused before anything is decoded.
    #[error("it is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// Not three parts of base64url, or an algorithm without a name here.
    #[error("it is not a signed JSON Web Token: three parts joined by dots, with a known algorithm")]
    NotAToken,
    /// A known algorithm that no configured key has.
    #[error("it is signed with {algorithm}, and {accepted}")]
    Algorithm { algorithm: String, accepted: &'static str },
    /// RFC 7515 section 4.1.11: an unknown critical extension refuses the token.
    #[error("its header has `crit`, and Hadir understands no critical extension")]
    Critical,
    /// A token may need a key that was published after the last refresh.
    #[error("the key set has no {algorithm} key named `{kid}`")]
    UnknownKey { algorithm: String, kid: String },
    /// No `kid`, and more or less than one key that could have signed it.
    #[error("its header names no key (`kid`), and the key set has {keys} {algorithm} keys")]
    NoKeyNamed { algorithm: String, keys: usize },
    /// Signed with another key, or changed after it was signed.
    #[error("its signature is not of the configured key: another secret signed it, or it was changed")]
    Signature,
    /// A claim that has to be there.
    #[error("the claim `{0}` is missing")]
    Missing(String),
    /// A claim that is not what it has to be.
    #[error("the claim `{claim}` {what}")]
    Wrong { claim: String, what: String },
    /// `exp`, with the leeway.
    #[error("it expired at {}", .0.format("%Y-%m-%dT%H:%M:%SZ"))]
    Expired(DateTime<Utc>),
    /// `nbf`, with the leeway.
    #[error("it is not valid before {}", .0.format("%Y-%m-%dT%H:%M:%SZ"))]
    NotYet(DateTime<Utc>),
}

impl InvalidToken {
    pub(super) fn wrong(claim: &str, what: impl Into<String>) -> Self {
        Self::Wrong { claim: claim.to_owned(), what: what.into() }
    }
}

/// A part of a token as a log line may show it: short, without control characters.
pub(super) fn quoted(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(LONGEST_QUOTE).collect()
}

/// Writes refusals to the log, sampled: a flood of bad tokens must not become a flood of lines.
#[derive(Default)]
pub(super) struct RefusalLog {
    state: Mutex<Sampled>,
}

#[derive(Default)]
struct Sampled {
    last: Option<Instant>,
    unlogged: u64,
}

impl RefusalLog {
    pub(super) fn note(&self, reason: &InvalidToken) {
        let mut state = self.state.lock();
        if state.last.is_some_and(|last| last.elapsed() < LOG_EVERY) {
            state.unlogged += 1;
            return;
        }
        state.last = Some(Instant::now());
        let unlogged = std::mem::take(&mut state.unlogged);
        drop(state);
        tracing::info!(%reason, more = unlogged, "a token was refused; `hadir token --check` explains one");
    }
}
