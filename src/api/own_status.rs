//! A mitra's own status, for apps in the background that hold no socket.

use axum::{Json, extract::State};

use super::{
    Api, ApiError,
    caller::{Admitted, Caller, Mitras},
};
use crate::{domain::Actor, presence::MitraView, protocol::StatusBody};

type Answer = Result<Json<StatusBody>, ApiError>;

fn body(view: &MitraView) -> Json<StatusBody> {
    Json(view.status_body())
}

pub async fn get(State(api): State<Api>, Admitted(id): Admitted) -> Answer {
    Ok(body(&api.presence.status(id).await.map_err(ApiError::of_own)?))
}

pub async fn online(State(api): State<Api>, Admitted(id): Admitted) -> Answer {
    let change = api.presence.go_online(id, Actor::Mitra).await.map_err(ApiError::of_own)?;
    // Going online is a heartbeat.
    Ok(Json(StatusBody::new(&change, true)))
}

pub async fn offline(State(api): State<Api>, Admitted(id): Admitted) -> Answer {
    let change = api.presence.go_offline(id, Actor::Mitra).await.map_err(ApiError::of_own)?;
    Ok(Json(StatusBody::new(&change, false)))
}

/// The token's life bounds a revoked sign-in here: a heartbeat asks no database.
pub async fn heartbeat(State(api): State<Api>, caller: Caller<Mitras>) -> Answer {
    Ok(body(&api.presence.heartbeat(caller.mitra()).await.map_err(ApiError::of_own)?))
}
