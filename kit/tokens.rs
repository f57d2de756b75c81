//! Tokens, minted here: a client like any other knows only the secret's holder.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Signs the tokens of a run. Its server lives on this machine and ends with the run.
pub const SECRET: &str = "a secret of the benchmark, known to everybody";
/// Longer than any run.
const LIFE_SECONDS: u64 = 24 * 3600;

/// Whose token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Mitra,
    Customer,
    Service,
    Dashboard,
}

#[derive(Serialize)]
struct Claims {
    sub: Uuid,
    role: Role,
    exp: u64,
}

/// Signs with [`SECRET`].
pub struct Mint {
    key: EncodingKey,
    expires: u64,
}

impl Mint {
    /// A mint whose tokens outlive the run.
    pub fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { key: EncodingKey::from_secret(SECRET.as_bytes()), expires: now + LIFE_SECONDS }
    }

    /// A token of a subject.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn token(&self, sub: Uuid, role: Role) -> Result<String> {
        Ok(encode(&Header::default(), &Claims { sub, role, exp: self.expires }, &self.key)?)
    }
}

/// The number of a subject in the load, as an id: the same in clients and in bulk-loaded tables.
pub fn subject(number: u64) -> Uuid {
    Uuid::from_u128(0x10ad_7e57_0000_4000_8000_0000_0000_0000 | u128::from(number))
}

/// The first 24 characters of every such id; twelve hexadecimal digits of the number follow.
pub const SUBJECT_PREFIX: &str = "10ad7e57-0000-4000-8000-";
