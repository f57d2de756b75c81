//! A mitra with a button and a customer's beacon.

use axum::{Router, extract::Path, routing::get};

use crate::api::{Asset, assets, find_asset, send_asset};

const MITRA: Asset = Asset { path: "demo/mitra.html", bytes: include_bytes!("../../web/demo/mitra.html") };
const CUSTOMER: Asset = Asset { path: "demo/customer.html", bytes: include_bytes!("../../web/demo/customer.html") };

const ASSETS: &[Asset] = assets!["demo/customer.js", "demo/demo.css", "demo/mitra.js", "demo/visitor.js"];

/// `/demo/mitra`, `/demo/customer` and what they load.
pub fn pages() -> Router {
    Router::new()
        .route("/demo/mitra", get(|| async { send_asset(&MITRA) }))
        .route("/demo/customer", get(|| async { send_asset(&CUSTOMER) }))
        .route("/demo/assets/{*path}", get(|Path(path): Path<String>| async move { find_asset(ASSETS, &path) }))
}
