//! REST: the questions and commands of sockets, where a socket cannot be held; and what operators need.
//!
//! A file per resource, with its handlers, types and tests. Errors become `application/problem+json` in `answer`, callers
//! are known in `caller`. Calls `presence` and `sessions`, reads the sweeps' status; never a store, a mirror or the `gateway`. Called by
//! `app`, which joins these routers with the gateway's.

mod answer;
mod availability;
mod body;
mod caller;
mod health;
mod mitras;
mod operations;
mod own_status;
mod page;
mod pairing;
mod sessions;
mod stream;

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, patch, post},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

pub use answer::ApiError;
pub(crate) use page::assets;
pub use page::{Asset, find_asset, send_asset};

use crate::{
    auth::{TokenVerifier, origin_allowed},
    lifecycle::Lifecycle,
    presence::Presence,
    protocol::{ErrorCode, Problem},
    sessions::Sessions,
    tasks::Tasks,
    telemetry::Metrics,
};

/// Bounds of REST; from the configuration.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    pub allowed_origins: Vec<String>,
    pub body_bytes: usize,
    /// For a request's body to arrive.
    pub body_timeout: Duration,
    pub sse_comment_interval: Duration,
}

/// What every handler may use. Shared whole: a request clones it several times.
#[derive(Clone)]
pub struct Api(Arc<ApiParts>);

/// The parts of an [`Api`].
pub struct ApiParts {
    pub settings: Arc<ApiSettings>,
    pub verifier: TokenVerifier,
    pub presence: Arc<Presence>,
    pub sessions: Arc<Sessions>,
    pub tasks: Tasks,
    pub metrics: Metrics,
    pub lifecycle: Lifecycle,
}

impl Deref for Api {
    type Target = ApiParts;

    fn deref(&self) -> &ApiParts {
        &self.0
    }
}

impl Api {
    /// REST over these parts.
    pub fn new(parts: ApiParts) -> Self {
        Self(Arc::new(parts))
    }

    /// The public listener's calls; `others` are the gateway's and the demo's routes, which live under the same rules for
    /// unknown paths and foreign origins.
    pub fn public_router(&self, others: Router) -> Router {
        let routes = Router::new()
            .route("/api/client/availability", get(availability::get))
            .route("/api/client/availability/stream", get(stream::get))
            .route("/api/mitra/status", get(own_status::get))
            .route("/api/mitra/status/online", post(own_status::online))
            .route("/api/mitra/status/offline", post(own_status::offline))
            .route("/api/mitra/status/heartbeat", post(own_status::heartbeat))
            .route("/readyz", get(health::public_readyz));
        self.finish(routes, others)
    }

    /// The internal listener's calls.
    pub fn internal_router(&self, others: Router) -> Router {
        let routes = Router::new()
            .route("/internal/counts", get(operations::counts))
            .route("/internal/nodes", get(operations::nodes))
            .route("/internal/disconnect", post(operations::disconnect))
            .route("/internal/reseed", post(operations::reseed))
            .route("/internal/sweeps", get(operations::sweeps))
            .route("/internal/sweeps/{name}/pause", post(operations::pause))
            .route("/internal/sweeps/{name}/resume", post(operations::resume))
            .route("/internal/mitras", get(mitras::list))
            .route("/internal/mitras/available", get(pairing::available))
            .route("/internal/mitras/{id}", get(mitras::explain).put(mitras::put))
            .route("/internal/mitras/{id}/status", patch(mitras::set_active))
            .route("/internal/mitras/{id}/reachable", get(pairing::reachable))
            .route("/internal/sessions", post(sessions::create))
            .route("/internal/sessions/{id}", get(sessions::get))
            .route("/internal/sessions/{id}/accept", post(sessions::accept))
            .route("/internal/sessions/{id}/confirm-payment", post(sessions::confirm_payment))
            .route("/internal/sessions/{id}/extend", post(sessions::extend))
            .route("/internal/sessions/{id}/reroute", post(sessions::reroute))
            .route("/internal/sessions/{id}/end", post(sessions::end))
            .route("/readyz", get(health::readyz))
            .route("/metrics", get(operations::metrics))
            .route("/", get(page::index))
            .route("/assets/{*path}", get(page::asset));
        self.finish(routes, others)
    }

    fn finish(&self, routes: Router<Self>, others: Router) -> Router {
        routes
            .route("/livez", get(health::livez))
            .with_state(self.clone())
            .merge(others)
            .method_not_allowed_fallback(method_not_allowed)
            .fallback(not_found)
            .layer(DefaultBodyLimit::max(self.settings.body_bytes))
            .layer(middleware::from_fn_with_state(Arc::clone(&self.settings), origins))
    }
}

/// What the internal listener says while the stores are not open yet: alive, not ready, everything else unavailable.
pub fn waiting_room() -> Router {
    Router::new().route("/livez", get(health::livez)).route("/readyz", get(health::not_started)).fallback(|| async {
        ApiError::from(Problem::new(ErrorCode::Unavailable, "this node is starting: its stores are not open yet"))
    })
}

async fn not_found() -> ApiError {
    Problem::new(ErrorCode::NotFound, "no such path; see docs/protocol.md for those there are").into()
}

async fn method_not_allowed() -> ApiError {
    Problem::new(ErrorCode::MethodNotAllowed, "this path does not take this method; see the Allow header").into()
}

/// Foreign origins are refused, allowed ones are answered as CORS asks (the Fetch standard).
async fn origins(State(settings): State<Arc<ApiSettings>>, request: Request, next: Next) -> Response {
    if !origin_allowed(request.headers(), &settings.allowed_origins) {
        let detail = "this origin is not allowed; add it to HADIR_ALLOWED_ORIGINS";
        return ApiError::from(Problem::new(ErrorCode::Forbidden, detail)).into_response();
    }
    let Some(origin) = request.headers().get(header::ORIGIN).cloned() else { return next.run(request).await };
    let preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    allow_origin(response.headers_mut(), origin, preflight);
    response
}

/// What a browser may send: the token, bodies, conditional reads, and what resumes and traces a stream.
const ALLOWED_HEADERS: &str = "authorization, content-type, if-none-match, last-event-id, cache-control, traceparent";

fn allow_origin(headers: &mut HeaderMap, origin: HeaderValue, preflight: bool) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("etag, retry-after"));
    if preflight {
        let set = |headers: &mut HeaderMap, name, value| headers.insert(name, HeaderValue::from_static(value));
        set(headers, header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, PATCH, DELETE");
        set(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
        set(headers, header::ACCESS_CONTROL_MAX_AGE, "600");
    }
}
