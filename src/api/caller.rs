//! Who calls: the bearer token of a request, and what its role may.

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::{Api, ApiError};
use crate::{
    auth::{Presented, Principal, presented, query_carries_token},
    domain::{Actor, MitraId, Role},
    hub::Holder,
    protocol::{ErrorCode, Problem},
};

/// Whoever sent a good token.
pub struct Caller(pub Principal);

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        if query_carries_token(parts.uri.query()) {
            let detail = "a token in the query ends in logs: send it in the Authorization header";
            return Err(Problem::new(ErrorCode::Unauthorized, detail).into());
        }
        let Presented::Header(token) = presented(&parts.headers) else { return Err(Problem::unauthorized().into()) };
        let principal = api.verifier.verify(token).map_err(|_| Problem::unauthorized())?;
        Ok(Self(principal))
    }
}

impl Caller {
    /// One of these roles, or refused.
    pub fn must_be(&self, roles: &[Role]) -> Result<(), ApiError> {
        if self.0.is_one_of(roles) {
            Ok(())
        } else {
            Err(Problem::new(ErrorCode::Forbidden, "this token's role may not do this").into())
        }
    }

    /// One of these roles, standing on a sign-in that still holds.
    pub async fn signed_in(&self, api: &Api, roles: &[Role]) -> Result<(), ApiError> {
        self.must_be(roles)?;
        Ok(api.presence.admit(self.holder()).await?)
    }

    /// A mitra; whether it may come in is asked separately, for a heartbeat asks nobody.
    pub fn mitra(&self) -> Result<MitraId, ApiError> {
        self.must_be(&[Role::Mitra])?;
        Ok(MitraId(self.0.subject.0))
    }

    /// The holder that the hub and presence know.
    pub fn holder(&self) -> Holder {
        Holder { subject: self.0.subject, role: self.0.role, session: self.0.session_id }
    }

    /// How this caller is recorded.
    pub fn actor(&self) -> Actor {
        match self.0.role {
            Role::Mitra => Actor::Mitra,
            Role::Dashboard => Actor::Dashboard,
            Role::Service | Role::Customer => Actor::Service,
        }
    }
}

/// Roles that may look.
pub const READERS: [Role; 2] = [Role::Service, Role::Dashboard];
/// Roles that may watch availability.
pub const WATCHERS: [Role; 3] = [Role::Customer, Role::Service, Role::Dashboard];
