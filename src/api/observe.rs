//! What is known of every request: its id, on the answer and on each log line about it, and how long it took.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderName, HeaderValue, Method};
use tracing::{Instrument, Span, field::Empty};

use crate::telemetry::{Metrics, request_id, trace_id};

/// Taken over from the request when it is short and plain; on every answer.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C Trace Context: the caller's trace.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The route of a request that has none here. A label is never for a client to choose.
const NO_ROUTE: &str = "none";

/// Surrounds every route.
pub(super) async fn observe(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(text(&request, &REQUEST_ID));
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = method(request.method());
    let span = span(&request, &id, method, route.as_ref());
    let mut response = next.run(request).instrument(span).await;
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    metrics.request_answered(method, route, response.status().as_u16(), began.elapsed());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Of the level error, so that a filter such as `warn` leaves the id on its lines.
fn span(request: &Request, id: &str, method: &'static str, route: Option<&MatchedPath>) -> Span {
    let route = route.map_or(NO_ROUTE, MatchedPath::as_str);
    let span = tracing::error_span!("request", request = id, trace = Empty, method, route);
    if let Some(trace) = text(request, &TRACEPARENT).and_then(trace_id) {
        span.record("trace", trace);
    }
    span
}

fn text<'a>(request: &'a Request, name: &HeaderName) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}

/// A word of few.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
