//! Tokens: where a request carries one, whether it is good, and for whom it speaks.
//!
//! Looks at signatures and claims only; whether a mitra exists, is deactivated, or its sign-in was revoked is asked of
//! the store by `presence`. Called by `gateway` and `api`; `cli`, the demo and the tests issue tokens with it.

mod bearer;
mod claims;
mod issuer;
mod key_set;
mod origin;
mod principal;
mod public_keys;
mod refusal;
pub mod secret;
mod verifier;

pub use bearer::{Presented, presented, query_carries_token, speaks_subprotocol};
pub use issuer::{Grant, Operator, TokenIssuer};
pub use origin::origin_allowed;
pub use principal::Principal;
pub use public_keys::PublicKeys;
pub use refusal::InvalidToken;
pub use secret::SecretError;
pub use verifier::{LEEWAY, MAX_TOKEN_BYTES, TokenVerifier};

use serde::Serialize;

/// The claims as they are written. Read by [`TokenVerifier`] with stricter types.
#[derive(Serialize)]
struct WrittenClaims<'a> {
    sub: String,
    role: &'a str,
    exp: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_only: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}
