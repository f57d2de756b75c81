//! Errors over HTTP: `application/problem+json` (RFC 9457) with the same codes as error frames.

use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::ErrorCode;

/// An error as it goes over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub status: StatusCode,
    pub code: ErrorCode,
    /// What to do about it.
    pub detail: String,
}

impl Problem {
    /// An error with the status that its code has over HTTP.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let status = match code {
            ErrorCode::Unauthorized | ErrorCode::Revoked => StatusCode::UNAUTHORIZED,
            ErrorCode::Forbidden | ErrorCode::Deactivated => StatusCode::FORBIDDEN,
            ErrorCode::UnknownMitra | ErrorCode::UnknownSession | ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::CapacityExceeded | ErrorCode::NotAvailable | ErrorCode::WrongState => StatusCode::CONFLICT,
            ErrorCode::BadRequest | ErrorCode::BadMessage | ErrorCode::TokenExpiring => StatusCode::BAD_REQUEST,
            ErrorCode::RateLimited | ErrorCode::TooManySockets => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::Unavailable | ErrorCode::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        };
        Self { status, code, detail: detail.into() }
    }

    /// The same with another status.
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The one answer to every token that is not good.
    pub fn unauthorized() -> Self {
        Self::new(ErrorCode::Unauthorized, "a good bearer token is needed in the Authorization header")
    }

    /// The status, headers and body.
    pub fn into_http(self) -> http::Response<String> {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: &'a str,
            title: &'a str,
            status: u16,
            code: &'a str,
            detail: &'a str,
        }
        let body = Body {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            code: self.code.as_str(),
            detail: &self.detail,
        };
        let mut response = http::Response::new(serde_json::to_string(&body).unwrap_or_default());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
            }
            _ => {}
        }
        response
    }
}
