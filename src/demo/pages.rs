//! A mitra with a button and a customer's beacon.

use axum::{Router, response::Response, routing::get};

use crate::api::send_asset;

macro_rules! page {
    ($kind:literal, $file:literal) => {
        get(|| async { page($kind, include_bytes!(concat!("../../web/demo/", $file))) })
    };
}

fn page(kind: &'static str, bytes: &'static [u8]) -> Response {
    send_asset(kind, bytes)
}

/// `/demo/mitra`, `/demo/customer` and what they load.
pub fn pages() -> Router {
    Router::new()
        .route("/demo/mitra", page!("text/html; charset=utf-8", "mitra.html"))
        .route("/demo/customer", page!("text/html; charset=utf-8", "customer.html"))
        .route("/demo/assets/demo.css", page!("text/css; charset=utf-8", "demo.css"))
        .route("/demo/assets/mitra.js", page!("text/javascript; charset=utf-8", "mitra.js"))
        .route("/demo/assets/customer.js", page!("text/javascript; charset=utf-8", "customer.js"))
        .route("/demo/assets/socket.js", page!("text/javascript; charset=utf-8", "socket.js"))
}
