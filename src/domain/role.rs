//! Who may speak, by the `role` claim of a token.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The `role` claim of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A partner.
    Mitra,
    /// Somebody who wants to know whether anybody is available.
    Customer,
    /// An operator.
    Dashboard,
    /// The backend that pairs customers with mitras.
    Service,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Mitra, Self::Customer, Self::Dashboard, Self::Service];

    /// The word in tokens and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mitra => "mitra",
            Self::Customer => "customer",
            Self::Dashboard => "dashboard",
            Self::Service => "service",
        }
    }
}

/// The word is none of the four roles.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a role; use mitra, customer, dashboard or service")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.as_str() == word).ok_or_else(|| UnknownRole(word.to_owned()))
    }
}
