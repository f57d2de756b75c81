//! A mitra's own status by REST, for apps in the background.

use hadir::domain::StatusReason;
use serde_json::json;

use crate::support::{World, on_both};

on_both!(a_mitra_goes_online_and_offline_by_rest_and_its_sockets_are_told);

async fn a_mitra_goes_online_and_offline_by_rest_and_its_sockets_are_told(world: World) {
    let node = world.node().await;
    let mitra = node.mitra().await;
    let mut socket = node.dial_mitra(&mitra).await;
    for (word, online) in [("online", true), ("offline", false)] {
        let reply = node.post(&format!("/api/mitra/status/{word}"), &mitra.token, json!({})).await;
        let body = reply.json();
        assert_eq!((reply.status.as_u16(), &body["online"], &body["available"]), (200, &json!(online), &json!(online)));
        let told = socket.frame("status").await;
        assert_eq!((&told["online"], &told["revision"]), (&json!(online), &body["revision"]));
        assert_eq!(told["reason"], json!(StatusReason::Command));
        assert_eq!(node.good("/api/mitra/status", &mitra.token).await["online"], online);
    }
    // A body is not needed: phones send none.
    let bare = node.request(reqwest::Method::POST, "/api/mitra/status/online", &mitra.token);
    assert_eq!(node.send(bare).await.status.as_u16(), 200);
}
