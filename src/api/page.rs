//! The dashboard page, embedded in the binary. It loads nothing from elsewhere and is handed its token by the person.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};

use super::{ApiError, answer::InPath};
use crate::protocol::{ErrorCode, Problem};

/// Only what this server sends may run. `ws:` and `wss:` stand for its own sockets: not every browser counts those as `'self'`.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; frame-ancestors 'none'; \
                      base-uri 'none'; form-action 'none'";

/// A file of a page. It is served under its path inside `web/`, so that files find each other as they do on disk.
pub struct Asset {
    pub path: &'static str,
    pub bytes: &'static [u8],
}

/// Embeds files of `web/`.
macro_rules! assets {
    ($($path:literal),* $(,)?) => {
        &[$($crate::api::Asset { path: $path, bytes: include_bytes!(concat!("../../web/", $path)) }),*]
    };
}
pub(crate) use assets;

const INDEX: Asset = Asset { path: "dashboard/index.html", bytes: include_bytes!("../../web/dashboard/index.html") };

const ASSETS: &[Asset] = assets![
    "dashboard/chart.js",
    "dashboard/dashboard.css",
    "dashboard/dashboard.js",
    "dashboard/explanation.js",
    "dashboard/figures.js",
    "dashboard/health.js",
    "dashboard/mitras.js",
    "dashboard/panels.css",
    "dashboard/rest.js",
    "dashboard/sweeps.js",
    "dashboard/table.js",
    "vendor/uplot/uPlot.iife.min.js",
    "vendor/uplot/uPlot.min.css",
];

/// What the dashboard and the demo's pages have in common.
const SHARED: &[Asset] = assets![
    "shared/base.css",
    "shared/icon-away.svg",
    "shared/icon-here.svg",
    "shared/icon-nobody.svg",
    "shared/page.js",
    "shared/socket.js",
    "shared/time.js",
    "shared/token.js",
    "vendor/plus-jakarta-sans/plus-jakarta-sans-latin-wght-normal.woff2",
];

pub async fn index() -> Response {
    send_asset(&INDEX)
}

pub async fn asset(InPath(path): InPath<String>) -> Response {
    find_asset(ASSETS, &path)
}

/// The asset with this path, among those of one page and the shared ones; else 404.
pub fn find_asset(own: &[Asset], path: &str) -> Response {
    match own.iter().chain(SHARED).find(|asset| asset.path == path) {
        Some(asset) => send_asset(asset),
        None => ApiError::from(Problem::new(ErrorCode::NotFound, "no such asset")).into_response(),
    }
}

/// A static file under the pages' policy.
pub fn send_asset(asset: &Asset) -> Response {
    let mut response = Response::new(Body::from(asset.bytes));
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_TYPE, kind(asset.path));
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::CACHE_CONTROL, "no-cache");
    response
}

fn kind(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}
