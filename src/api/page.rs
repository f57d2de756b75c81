//! The dashboard page, embedded in the binary. It loads nothing from elsewhere and is handed its token by the person.

use axum::{
    body::Body,
    extract::Path,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};

use super::ApiError;
use crate::protocol::{ErrorCode, Problem};

/// Only what this server sends may run, and it may talk only to this server.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; frame-ancestors 'none'; \
                      base-uri 'none'; form-action 'none'";

struct Asset {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! assets {
    ($($path:literal, $kind:literal, $file:literal;)*) => {
        &[$(Asset { path: $path, kind: $kind, bytes: include_bytes!(concat!("../../web/", $file)) }),*]
    };
}

const INDEX: &[u8] = include_bytes!("../../web/dashboard/index.html");

const ASSETS: &[Asset] = assets! {
    "dashboard.css", "text/css; charset=utf-8", "dashboard/dashboard.css";
    "dashboard.js", "text/javascript; charset=utf-8", "dashboard/dashboard.js";
};

pub async fn index() -> Response {
    send("text/html; charset=utf-8", INDEX)
}

pub async fn asset(Path(path): Path<String>) -> Response {
    match ASSETS.iter().find(|asset| asset.path == path) {
        Some(asset) => send(asset.kind, asset.bytes),
        None => ApiError::from(Problem::new(ErrorCode::NotFound, "no such asset")).into_response(),
    }
}

/// A static file under the page's policy; the demo's pages are sent the same way.
pub fn send(kind: &'static str, bytes: &'static [u8]) -> Response {
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_TYPE, kind);
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::CACHE_CONTROL, "no-cache");
    response
}
