//! What operators and monitoring ask and do.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::header;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Api, ApiError,
    answer::{InPath, Strict},
    caller::{Caller, READERS},
};
use crate::{
    domain::{Role, SubjectId},
    presence::ReseedReport,
    protocol::{DashboardNode, ErrorCode, Problem},
    telemetry::Metrics,
};

const MAX_PAUSE_SECONDS: f64 = 86_400.0;
const MAX_TEXT: usize = 100;
const OPERATORS: [Role; 2] = [Role::Service, Role::Dashboard];

pub async fn counts(State(api): State<Api>, caller: Caller) -> Result<Response, ApiError> {
    caller.signed_in(&api, &READERS).await?;
    let overview = api.presence.overview().await?;
    Ok(Json(overview.body()).into_response())
}

pub async fn nodes(State(api): State<Api>, caller: Caller) -> Result<Response, ApiError> {
    caller.signed_in(&api, &READERS).await?;
    let nodes = api.presence.nodes().await;
    let nodes: Vec<DashboardNode<'_>> = nodes.iter().map(Into::into).collect();
    Ok(Json(json!({ "nodes": nodes })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disconnect {
    sub: Uuid,
    reason: Option<String>,
}

pub async fn disconnect(
    State(api): State<Api>,
    caller: Caller,
    Strict(body): Strict<Disconnect>,
) -> Result<Json<Value>, ApiError> {
    caller.signed_in(&api, &OPERATORS).await?;
    let reason = body.reason.unwrap_or_default();
    if reason.chars().count() > MAX_TEXT {
        return Err(ApiError::bad_request(format!("`reason` has at most {MAX_TEXT} characters")));
    }
    let closed = api.presence.disconnect(SubjectId(body.sub), &reason).await?;
    Ok(Json(json!({ "closed": closed })))
}

pub async fn reseed(State(api): State<Api>, caller: Caller) -> Result<Json<ReseedReport>, ApiError> {
    caller.signed_in(&api, &[Role::Service]).await?;
    Ok(Json(api.presence.reseed().await?))
}

#[derive(Serialize)]
struct AllSweeps<S> {
    sweeps: S,
}

pub async fn sweeps(State(api): State<Api>, caller: Caller) -> Result<Response, ApiError> {
    caller.signed_in(&api, &READERS).await?;
    Ok(Json(AllSweeps { sweeps: api.sweeps.status().await? }).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    seconds: f64,
}

pub async fn pause(
    State(api): State<Api>,
    caller: Caller,
    InPath(name): InPath<String>,
    Strict(body): Strict<Pause>,
) -> Result<Response, ApiError> {
    caller.signed_in(&api, &OPERATORS).await?;
    if !(0.0..=MAX_PAUSE_SECONDS).contains(&body.seconds) || body.seconds == 0.0 {
        return Err(ApiError::bad_request(format!("`seconds` is more than 0 and at most {MAX_PAUSE_SECONDS}")));
    }
    rest(&api, &name, Duration::from_secs_f64(body.seconds)).await?;
    tracing::info!(sweep = name, seconds = body.seconds, by = ?caller.0.subject, "a sweep was paused");
    sweeps(State(api), caller).await
}

pub async fn resume(
    State(api): State<Api>,
    caller: Caller,
    InPath(name): InPath<String>,
) -> Result<Response, ApiError> {
    caller.signed_in(&api, &OPERATORS).await?;
    rest(&api, &name, Duration::ZERO).await?;
    sweeps(State(api), caller).await
}

async fn rest(api: &Api, name: &str, rest: Duration) -> Result<(), ApiError> {
    let names = api.sweeps.names();
    if !names.contains(&name) {
        let detail = format!("no sweep has this name; there are {}", names.join(", "));
        return Err(Problem::new(ErrorCode::NotFound, detail).into());
    }
    Ok(api.presence.pause_sweep(name, rest).await?)
}

pub async fn metrics(State(api): State<Api>) -> Response {
    ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], api.metrics.render()).into_response()
}
