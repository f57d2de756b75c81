//! "Is anybody there?", once. Answered from this node's newest frame: no store, no mirror, no encoding per request.

use axum::{body::Body, extract::State, response::Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    Api, ApiError,
    caller::{Caller, Watchers},
};

pub async fn get(State(api): State<Api>, _: Caller<Watchers>, headers: HeaderMap) -> Result<Response, ApiError> {
    let news = api.presence.availability().await?;
    let unchanged = headers.get_all(header::IF_NONE_MATCH).iter().any(|value| matches(value, news.etag()));
    let mut response = if unchanged {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = Response::new(Body::from(news.body()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, news.etag().clone());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

/// Weak comparison (RFC 9110 section 13.1.2).
fn matches(value: &HeaderValue, etag: &HeaderValue) -> bool {
    let (Ok(list), Ok(etag)) = (value.to_str(), etag.to_str()) else { return false };
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    list.split(',').any(|tag| tag.trim() == "*" || opaque(tag) == opaque(etag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_weakly_and_in_lists() {
        let etag = HeaderValue::from_static(r#"W/"e-7""#);
        for list in [r#"W/"e-7""#, r#""e-7""#, r#""x", W/"e-7""#, "*"] {
            assert!(matches(&HeaderValue::from_str(list).unwrap(), &etag), "{list}");
        }
        for list in [r#"W/"e-8""#, "", "e-7"] {
            assert!(!matches(&HeaderValue::from_str(list).unwrap(), &etag), "{list}");
        }
    }
}
