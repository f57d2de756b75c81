//! Errors to status in one place, and ids of the path.

use axum::{
    body::Body,
    extract::{FromRequestParts, Path},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};
use serde::de::DeserializeOwned;

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
