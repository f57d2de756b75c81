//! Who calls: the bearer token of a request, and what its role may. A handler names the roles it is for among its arguments, before
//! anything else of the request is read: whoever may not call learns nothing about what the call would take.

use std::{marker::PhantomData, ops::Deref};

use axum::extract::FromRequestParts;
use chrono::{DateTime, Utc};
use http::request::Parts;

use super::{Api, ApiError};
use crate::{
    auth::{Presented, Principal, presented, query_carries_token},
    domain::{Actor, Cause, MitraId, Role, SubjectId, actor_text},
    hub::Holder,
    protocol::{ErrorCode, Problem},
};

/// Whom a call is for.
pub trait Allowed {
    const ROLES: &'static [Role];
}

macro_rules! allowed {
    ($($(#[$doc:meta])* $name:ident: $($role:ident),+;)+) => {
        $(
            $(#[$doc])*
            pub struct $name;

            impl Allowed for $name {
                const ROLES: &'static [Role] = &[$(Role::$role),+];
            }
        )+
    };
}

allowed! {
    /// The backend that pairs.
    Backend: Service;
    /// Who may look at everything.
    Readers: Service, Dashboard;
    /// Who may intervene.
    Operators: Service, Dashboard;
    /// Who may watch availability.
    Watchers: Customer, Service, Dashboard;
    /// Apps of mitras.
    Mitras: Mitra;
}

/// Whoever sent a good token of an allowed role. The token is all that is asked.
pub struct Caller<A> {
    principal: Principal,
    allowed: PhantomData<fn() -> A>,
}

impl<A: Allowed> FromRequestParts<Api> for Caller<A> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        if query_carries_token(parts.uri.query()) {
            let detail = "a token in the query ends in logs: send it in the Authorization header";
            return Err(Problem::new(ErrorCode::Unauthorized, detail).into());
        }
        let Presented::Header(token) = presented(&parts.headers) else { return Err(Problem::unauthorized().into()) };
        let principal = api.verifier.verify(token).await.map_err(|_| Problem::unauthorized())?;
        if !principal.is_one_of(A::ROLES) {
            return Err(Problem::new(ErrorCode::Forbidden, "this token's role may not do this").into());
        }
        if principal.read_only && !parts.method.is_safe() {
            let detail = "this token is read-only: it may look at everything and change nothing";
            return Err(Problem::new(ErrorCode::Forbidden, detail).into());
        }
        Ok(Self { principal, allowed: PhantomData })
    }
}

impl<A> Caller<A> {
    pub fn subject(&self) -> SubjectId {
        self.principal.subject
    }

    /// When the token ends.
    pub fn expires_at(&self) -> DateTime<Utc> {
        self.principal.expires_at
    }

    /// The holder that the hub and presence know.
    pub fn holder(&self) -> Holder {
        Holder { subject: self.principal.subject, role: self.principal.role, session: self.principal.session_id }
    }

    /// How this caller is recorded.
    pub fn actor(&self) -> Actor {
        match self.principal.role {
            Role::Mitra => Actor::Mitra,
            Role::Dashboard => Actor::Dashboard,
            Role::Service | Role::Customer => Actor::Service,
        }
    }

    /// What this caller does, and why.
    pub fn cause(&self, reason: impl Into<String>) -> Cause {
        Cause::new(self.actor(), reason).by(self.principal.name.clone())
    }

    /// The same in a log line: `dashboard:Sari`.
    pub fn actor_text(&self) -> String {
        actor_text(self.actor(), self.principal.name.as_deref())
    }
}

impl Caller<Mitras> {
    /// The mitra who calls.
    pub fn mitra(&self) -> MitraId {
        MitraId(self.principal.subject.0)
    }
}

/// A caller who stands on a sign-in that still holds.
pub struct SignedIn<A>(Caller<A>);

impl<A: Allowed> FromRequestParts<Api> for SignedIn<A> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, api).await?;
        api.presence.admit(caller.holder()).await?;
        Ok(Self(caller))
    }
}

impl<A> Deref for SignedIn<A> {
    type Target = Caller<A>;

    fn deref(&self) -> &Caller<A> {
        &self.0
    }
}

/// A mitra who calls about itself and may come in: it exists, is active, and its sign-in holds.
pub struct Admitted(pub MitraId);

impl FromRequestParts<Api> for Admitted {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let caller = Caller::<Mitras>::from_request_parts(parts, api).await?;
        api.presence.admit_mitra(caller.holder()).await.map_err(ApiError::of_own)?;
        Ok(Self(caller.mitra()))
    }
}
