//! Mitras as operators and services manage them.

use axum::{Json, extract::State};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Api, ApiError,
    answer::InPath,
    body::{InQuery, Strict},
    caller::{Backend, Operators, Readers, SignedIn},
};
use crate::{
    domain::{Cause, LastHeard, MitraId, Source},
    presence::{ListCursor, ListFilter, MitraView},
    protocol::{Explanation, MitraBody, StatusBody, timestamp},
};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;
const MAX_TEXT: usize = 200;
const MAX_SESSIONS: u32 = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    state: Option<String>,
    search: Option<String>,
    cursor: Option<String>,
    limit: Option<u32>,
}

#[derive(Serialize)]
pub struct Page {
    mitras: Vec<Mitra>,
    next_cursor: Option<String>,
    as_of: String,
    source: Source,
    stale: bool,
}

#[derive(Serialize)]
pub struct Mitra {
    #[serde(flatten)]
    facts: Facts,
    display_name: String,
}

/// What is true of a mitra now, and when it was last heard.
#[derive(Serialize)]
pub struct Facts {
    #[serde(flatten)]
    mitra: MitraBody,
    heartbeat_age_ms: Option<u64>,
}

impl From<MitraView> for Mitra {
    fn from(view: MitraView) -> Self {
        Self { facts: Facts::from(&view), display_name: view.display_name.unwrap_or_default() }
    }
}

impl From<&MitraView> for Facts {
    fn from(view: &MitraView) -> Self {
        Self {
            mitra: MitraBody::new(view.change.mitra_id, &view.change.facts, view.fresh),
            heartbeat_age_ms: view.heartbeat_age.map(|age| age.as_millis() as u64),
        }
    }
}

pub async fn list(
    State(api): State<Api>,
    _: SignedIn<Readers>,
    InQuery(query): InQuery<ListQuery>,
) -> Result<Json<Page>, ApiError> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::bad_request(format!("`limit` is from 1 to {MAX_LIMIT}")));
    }
    let state = query.state.as_deref().map(str::parse).transpose().map_err(|error| match error {
        crate::presence::UnknownState => ApiError::bad_request(error.to_string()),
    })?;
    let after = query.cursor.as_deref().map(read_cursor).transpose()?;
    let search = query.search.filter(|text| !text.is_empty());
    if search.as_ref().is_some_and(|text| text.chars().count() > MAX_TEXT) {
        return Err(ApiError::bad_request(format!("`search` has at most {MAX_TEXT} characters")));
    }
    let page = api.presence.list(&ListFilter { state, search, after, limit }).await?;
    Ok(Json(Page {
        mitras: page.mitras.into_iter().map(Into::into).collect(),
        next_cursor: page.next.map(write_cursor),
        as_of: timestamp(page.as_of),
        source: page.source,
        stale: page.stale,
    }))
}

/// An id alone, or an id, its last heartbeat and who knows that: 16 or 25 bytes.
fn write_cursor(cursor: ListCursor) -> String {
    match cursor {
        ListCursor::Id(id) => BASE64_URL_SAFE_NO_PAD.encode(id.0.as_bytes()),
        ListCursor::Silence { of_mirror, heard } => {
            let mut bytes = heard.id.0.as_bytes().to_vec();
            bytes.extend(heard.at_ms.to_be_bytes());
            bytes.push(u8::from(of_mirror));
            BASE64_URL_SAFE_NO_PAD.encode(bytes)
        }
    }
}

fn read_cursor(cursor: &str) -> Result<ListCursor, ApiError> {
    let read = |bytes: Vec<u8>| {
        let (id, rest) = bytes.split_first_chunk::<16>()?;
        let id = MitraId(Uuid::from_bytes(*id));
        match (rest.split_first_chunk::<8>(), rest) {
            (None, []) => Some(ListCursor::Id(id)),
            (Some((at_ms, [of_mirror @ (0 | 1)])), _) => {
                let heard = LastHeard { at_ms: u64::from_be_bytes(*at_ms), id };
                Some(ListCursor::Silence { of_mirror: *of_mirror == 1, heard })
            }
            _ => None,
        }
    };
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok();
    bytes
        .and_then(read)
        .ok_or_else(|| ApiError::bad_request("`cursor` is not one that this server gave: begin without one"))
}

pub async fn explain(
    State(api): State<Api>,
    _: SignedIn<Readers>,
    InPath(id): InPath<Uuid>,
) -> Result<Json<Explanation>, ApiError> {
    Ok(Json(api.presence.explain(MitraId(id)).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Put {
    display_name: String,
    max_sessions: Option<u32>,
}

pub async fn put(
    State(api): State<Api>,
    caller: SignedIn<Backend>,
    InPath(id): InPath<Uuid>,
    Strict(body): Strict<Put>,
) -> Result<Json<Mitra>, ApiError> {
    let name = body.display_name.trim();
    if name.is_empty() || name.chars().count() > MAX_TEXT {
        return Err(ApiError::bad_request(format!("`display_name` has 1 to {MAX_TEXT} characters")));
    }
    if body.max_sessions.is_some_and(|max| max > MAX_SESSIONS) {
        return Err(ApiError::bad_request(format!("`max_sessions` is from 0 to {MAX_SESSIONS}")));
    }
    let view = api.presence.put_mitra(MitraId(id), name, body.max_sessions, caller.actor()).await?;
    Ok(Json(view.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetActive {
    is_active: bool,
    reason: Option<String>,
}

pub async fn set_active(
    State(api): State<Api>,
    caller: SignedIn<Operators>,
    InPath(id): InPath<Uuid>,
    Strict(body): Strict<SetActive>,
) -> Result<Json<StatusBody>, ApiError> {
    let reason = body.reason.unwrap_or_else(|| "command".to_owned());
    if reason.chars().count() > MAX_TEXT {
        return Err(ApiError::bad_request(format!("`reason` has at most {MAX_TEXT} characters")));
    }
    let cause = Cause::new(caller.actor(), reason.clone());
    let view = api.presence.set_active(MitraId(id), body.is_active, cause).await?;
    let what = if body.is_active { "a mitra was activated" } else { "a mitra was deactivated" };
    tracing::info!(mitra = %id, reason = ?reason, by = ?caller.subject(), "{what}");
    Ok(Json(view.status_body()))
}
