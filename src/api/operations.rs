//! What operators and monitoring ask and do.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, header};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Api, ApiError,
    answer::InPath,
    body::Strict,
    caller::{Backend, Operators, Readers, SignedIn},
};
use crate::{
    domain::SubjectId,
    protocol::{DashboardNode, ErrorCode, Problem, ReseedReport, timestamp},
    telemetry::Exposition,
};

const MAX_PAUSE_SECONDS: f64 = 86_400.0;
const MAX_TEXT: usize = 100;

pub async fn counts(State(api): State<Api>, _: SignedIn<Readers>) -> Result<Response, ApiError> {
    let overview = api.presence.overview().await?;
    Ok(Json(overview.body()).into_response())
}

pub async fn nodes(State(api): State<Api>, _: SignedIn<Readers>) -> Result<Response, ApiError> {
    let known = api.presence.nodes();
    let nodes: Vec<DashboardNode<'_>> = known.nodes.iter().map(Into::into).collect();
    Ok(Json(json!({ "nodes": nodes, "nodes_as_of": known.as_of.map(timestamp) })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disconnect {
    sub: Uuid,
    reason: Option<String>,
}

pub async fn disconnect(
    State(api): State<Api>,
    caller: SignedIn<Operators>,
    Strict(body): Strict<Disconnect>,
) -> Result<Json<Value>, ApiError> {
    let reason = body.reason.unwrap_or_default();
    if reason.chars().count() > MAX_TEXT {
        return Err(ApiError::bad_request(format!("`reason` has at most {MAX_TEXT} characters")));
    }
    let closed = api.presence.disconnect(SubjectId(body.sub), &reason).await;
    // A caller's text is written quoted: it cannot make a line of its own.
    tracing::info!(subject = %body.sub, closed, reason = ?reason, by = ?caller.subject(), "a subject was disconnected");
    Ok(Json(json!({ "closed": closed })))
}

pub async fn reseed(State(api): State<Api>, _: SignedIn<Backend>) -> Result<Json<ReseedReport>, ApiError> {
    Ok(Json(api.presence.reseed().await?))
}

pub async fn sweeps(State(api): State<Api>, _: SignedIn<Readers>) -> Result<Response, ApiError> {
    all_sweeps(&api).await
}

async fn all_sweeps(api: &Api) -> Result<Response, ApiError> {
    Ok(Json(json!({ "sweeps": api.tasks.sweeps().await, "tasks": api.tasks.all() })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    seconds: f64,
}

pub async fn pause(
    State(api): State<Api>,
    caller: SignedIn<Operators>,
    InPath(name): InPath<String>,
    Strict(body): Strict<Pause>,
) -> Result<Response, ApiError> {
    if !(0.0..=MAX_PAUSE_SECONDS).contains(&body.seconds) || body.seconds == 0.0 {
        return Err(ApiError::bad_request(format!("`seconds` is more than 0 and at most {MAX_PAUSE_SECONDS}")));
    }
    rest(&api, &name, Duration::from_secs_f64(body.seconds)).await?;
    tracing::info!(sweep = name, seconds = body.seconds, by = ?caller.subject(), "a sweep was paused");
    all_sweeps(&api).await
}

pub async fn resume(
    State(api): State<Api>,
    caller: SignedIn<Operators>,
    InPath(name): InPath<String>,
) -> Result<Response, ApiError> {
    rest(&api, &name, Duration::ZERO).await?;
    tracing::info!(sweep = name, by = ?caller.subject(), "a sweep was resumed");
    all_sweeps(&api).await
}

async fn rest(api: &Api, name: &str, rest: Duration) -> Result<(), ApiError> {
    let names = api.tasks.sweep_names();
    if !names.contains(&name) {
        let detail = format!("no sweep has this name; there are {}", names.join(", "));
        return Err(Problem::new(ErrorCode::NotFound, detail).into());
    }
    Ok(api.presence.pause_sweep(name, rest).await?)
}

pub async fn metrics(State(api): State<Api>, headers: HeaderMap) -> Response {
    let accept: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let form = Exposition::asked_for(&accept.join(","));
    // A cache between may not give the one for the other.
    let named = [(header::CONTENT_TYPE, form.content_type()), (header::VARY, "accept")];
    (named, api.metrics.render(form)).into_response()
}
