//! Errors to status in one place, and bodies that are read strictly.

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};
use http_body::Body as _;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::Api;
use crate::{
    presence::PresenceError,
    protocol::{ErrorCode, Problem},
};

/// Why a call was not answered with what it asked for.
#[derive(Debug)]
pub struct ApiError(Problem);

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<PresenceError> for ApiError {
    fn from(error: PresenceError) -> Self {
        Self(Problem::new(error.code(), error.to_string()))
    }
}

impl ApiError {
    /// A request that is wrong in itself; the text says how to put it right.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self(Problem::new(ErrorCode::BadRequest, detail))
    }

    /// A mitra asks for itself and is not there: its token is of no use here, the path is.
    pub fn of_own(error: PresenceError) -> Self {
        let unknown = error == PresenceError::UnknownMitra;
        let Self(problem) = error.into();
        Self(if unknown { problem.with_status(StatusCode::FORBIDDEN) } else { problem })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.0.into_http().map(Body::from)
    }
}

/// Whether a JSON text holds the character NUL. After a backslash that is itself escaped, `u0000` is plain letters.
fn writes_nul(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        if rest[at + 1..].starts_with(b"u0000") {
            return true;
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    false
}

/// A JSON body: in the configured time, at most the configured bytes, JSON by its own word, no field that is not known.
pub struct Strict<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Api> for Strict<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let reading = Bytes::from_request(Request::from_parts(parts.clone(), body), api);
        let Ok(read) = timeout(api.settings.body_timeout, reading).await else {
            let late = Problem::new(ErrorCode::BadRequest, "the body did not arrive in time");
            return Err(late.with_status(StatusCode::REQUEST_TIMEOUT).into());
        };
        let body = match read {
            Ok(body) => body,
            Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                return Err(Problem::new(ErrorCode::TooLarge, "the body is larger than this server takes").into());
            }
            Err(error) => return Err(ApiError::bad_request(error.body_text())),
        };
        // Postgres keeps no such character.
        if writes_nul(&body) {
            return Err(ApiError::bad_request("text may not hold the character NUL"));
        }
        // Fields are told apart by their names, never by their places in a list.
        if body.trim_ascii_start().starts_with(b"[") {
            return Err(ApiError::bad_request("the body is a JSON object, not a list"));
        }
        match Json::<T>::from_request(Request::from_parts(parts, Body::from(body)), api).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(error) => Err(ApiError::bad_request(error.body_text())),
        }
    }
}

/// The same where everything in the body is optional: an empty body is an empty object.
pub struct OptionalBody<T>(pub T);

impl<T: DeserializeOwned + Default> FromRequest<Api> for OptionalBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        if request.body().is_end_stream() {
            return Ok(Self(T::default()));
        }
        Strict::from_request(request, api).await.map(|Strict(body)| Self(body))
    }
}

/// A UUID (or name) in the path.
pub struct InPath<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(value) = Path::<T>::from_request_parts(parts, state)
            .await
            // Not repeated: it may be anything, a token too.
            .map_err(|_| ApiError::bad_request("the path is wrong: it holds what is not an id (a UUID) or not text"))?;
        Ok(Self(value))
    }
}

/// The query, without unknown keys.
pub struct InQuery<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for InQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(ApiError::bad_request("the query may not hold the character NUL"));
        }
        let Query(value) = Query::<T>::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::bad_request(format!("the query is wrong: {}", error.body_text())))?;
        Ok(Self(value))
    }
}

#[cfg(test)]
mod tests {
    use super::writes_nul;

    #[test]
    fn a_nul_is_told_from_a_backslash_before_the_same_letters() {
        for nul in [r#""\u0000""#, r#""a\\\u0000""#, r#""\n\u0000b""#] {
            assert!(writes_nul(nul.as_bytes()), "{nul}");
        }
        for text in [r#""\\u0000""#, r#""\\\\u0000""#, r#""u0000""#, r#""\u0001""#, r#""a\"#] {
            assert!(!writes_nul(text.as_bytes()), "{text}");
        }
    }
}
