//! What the backend that pairs asks: who is available, and can this one be reached?

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Api, ApiError,
    answer::InPath,
    body::InQuery,
    caller::{Readers, SignedIn},
    mitras::Facts,
};
use crate::{
    domain::{MitraId, Source},
    protocol::timestamp,
};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvailableQuery {
    limit: Option<u32>,
}

#[derive(Serialize)]
pub struct Available {
    mitras: Vec<AvailableMitra>,
    total: u64,
    as_of: String,
    source: Source,
    stale: bool,
}

#[derive(Serialize)]
struct AvailableMitra {
    mitra_id: MitraId,
    sessions: u32,
    max_sessions: u32,
    heartbeat_age_ms: u64,
}

pub async fn available(
    State(api): State<Api>,
    _: SignedIn<Readers>,
    InQuery(query): InQuery<AvailableQuery>,
) -> Result<Json<Available>, ApiError> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::bad_request(format!("`limit` is from 1 to {MAX_LIMIT}")));
    }
    let answer = api.presence.find_available(limit).await?;
    let mitras = answer
        .value
        .mitras
        .iter()
        .map(|mitra| AvailableMitra {
            mitra_id: mitra.id,
            sessions: mitra.sessions,
            max_sessions: mitra.max_sessions,
            heartbeat_age_ms: mitra.heartbeat_age.as_millis() as u64,
        })
        .collect();
    Ok(Json(Available {
        mitras,
        total: answer.value.total,
        as_of: timestamp(answer.as_of),
        source: answer.source,
        stale: answer.stale,
    }))
}

#[derive(Serialize)]
pub struct Reachable {
    #[serde(flatten)]
    facts: Facts,
    as_of: String,
    source: Source,
    stale: bool,
}

pub async fn reachable(
    State(api): State<Api>,
    _: SignedIn<Readers>,
    InPath(id): InPath<Uuid>,
) -> Result<Json<Reachable>, ApiError> {
    let answer = api.presence.reachable(MitraId(id)).await?;
    Ok(Json(Reachable {
        facts: Facts::from(&answer.value),
        as_of: timestamp(answer.as_of),
        source: answer.source,
        stale: answer.stale,
    }))
}
