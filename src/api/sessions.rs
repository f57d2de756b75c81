//! Chat sessions, as the backend that pairs customers with mitras drives them.

use std::time::Duration;

use axum::{Json, extract::State};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    Api, ApiError,
    answer::InPath,
    body::{OptionalBody, Strict},
    caller::{Backend, Caller, Readers, SignedIn},
};
use crate::{
    domain::{Cause, CustomerId, MitraId, Payment, SessionAction, SessionId},
    protocol::SessionBody,
};

/// The longest time that a session is given at once, in seconds: thirty days.
const LONGEST_SECONDS: f64 = 30.0 * 86_400.0;
const MAX_REASON: usize = 200;

type Answer = Result<Json<SessionBody>, ApiError>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    customer_id: Uuid,
    id: Option<Uuid>,
}

pub async fn create(State(api): State<Api>, _: SignedIn<Backend>, Strict(body): Strict<Create>) -> Answer {
    let customer = named("customer_id", body.customer_id)?;
    let id = body.id.map(|id| named("id", id)).transpose()?;
    let session = api.sessions.create(id.map(SessionId), CustomerId(customer)).await?;
    Ok(Json(session.into()))
}

pub async fn get(State(api): State<Api>, _: SignedIn<Readers>, InPath(id): InPath<Uuid>) -> Answer {
    Ok(Json(api.sessions.get(SessionId(id)).await?.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    mitra_id: Uuid,
    payment: Payment,
    duration_seconds: f64,
}

pub async fn accept(
    State(api): State<Api>,
    caller: SignedIn<Backend>,
    InPath(id): InPath<Uuid>,
    Strict(body): Strict<Accept>,
) -> Answer {
    let mitra = MitraId(body.mitra_id);
    let duration = seconds("duration_seconds", body.duration_seconds)?;
    change(&api, &caller, id, SessionAction::Accept { mitra, payment: body.payment, duration }, "accepted").await
}

/// A call that says nothing; its body may be missing.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

pub async fn confirm_payment(
    State(api): State<Api>,
    caller: SignedIn<Backend>,
    InPath(id): InPath<Uuid>,
    OptionalBody(Nothing {}): OptionalBody<Nothing>,
) -> Answer {
    change(&api, &caller, id, SessionAction::ConfirmPayment, "paid").await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extend {
    seconds: f64,
}

pub async fn extend(
    State(api): State<Api>,
    caller: SignedIn<Backend>,
    InPath(id): InPath<Uuid>,
    Strict(body): Strict<Extend>,
) -> Answer {
    let by = seconds("seconds", body.seconds)?;
    change(&api, &caller, id, SessionAction::Extend { by }, "extended").await
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reroute {
    mitra_id: Option<Uuid>,
}

pub async fn reroute(
    State(api): State<Api>,
    caller: SignedIn<Backend>,
    InPath(id): InPath<Uuid>,
    OptionalBody(body): OptionalBody<Reroute>,
) -> Answer {
    let to = body.mitra_id.map(MitraId);
    change(&api, &caller, id, SessionAction::Reroute { to }, "rerouted").await
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    reason: Option<String>,
}

pub async fn end(
    State(api): State<Api>,
    caller: SignedIn<Backend>,
    InPath(id): InPath<Uuid>,
    OptionalBody(body): OptionalBody<End>,
) -> Answer {
    let reason = body.reason.unwrap_or_else(|| "ended".to_owned());
    if reason.chars().count() > MAX_REASON {
        return Err(ApiError::bad_request(format!("`reason` has at most {MAX_REASON} characters")));
    }
    change(&api, &caller, id, SessionAction::End, &reason).await
}

async fn change(api: &Api, caller: &Caller<Backend>, id: Uuid, action: SessionAction, reason: &str) -> Answer {
    let cause = Cause::new(caller.actor(), reason);
    Ok(Json(api.sessions.change(SessionId(id), &action, &cause).await?.into()))
}

fn named(field: &str, id: Uuid) -> Result<Uuid, ApiError> {
    if id.is_nil() {
        return Err(ApiError::bad_request(format!("`{field}` is the nil UUID: nobody is called that")));
    }
    Ok(id)
}

fn seconds(field: &str, value: f64) -> Result<Duration, ApiError> {
    if value > 0.0 && value <= LONGEST_SECONDS {
        Ok(Duration::from_secs_f64(value))
    } else {
        Err(ApiError::bad_request(format!("`{field}` is more than 0 and at most {LONGEST_SECONDS} seconds")))
    }
}
