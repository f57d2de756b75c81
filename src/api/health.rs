//! For load balancers and supervisors; no token.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::json;

use super::Api;
use crate::{
    presence::{Audience, Readiness},
    protocol::Check,
};

/// The process lives.
pub async fn livez() -> Response {
    Json(json!({ "status": "ok", "checks": [] })).into_response()
}

/// The stores are not open yet.
pub async fn not_started() -> Response {
    let check = Check { name: "started", ok: false, detail: "starting: the store is not open yet".to_owned() };
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "not_ready", "checks": [check] }))).into_response()
}

/// This node should be given traffic; with the reasons of what fails, for operators.
pub async fn readyz(State(api): State<Api>) -> Response {
    answer(api.presence.readiness(Audience::Operators))
}

/// The same for everybody.
pub async fn public_readyz(State(api): State<Api>) -> Response {
    answer(api.presence.readiness(Audience::Everybody))
}

fn answer(readiness: Readiness) -> Response {
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if readiness.ready { "ready" } else { "not_ready" };
    (status, Json(json!({ "status": word, "checks": readiness.checks }))).into_response()
}
