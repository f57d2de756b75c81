//! Bad input on an open socket, and everything that is bounded: the exact close code and reason.

use futures_util::SinkExt;
use hadir::domain::Role;
use serde_json::json;
use tokio_tungstenite::tungstenite::{
    Bytes, Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use crate::support::{Client, Closed, World, on_both};

on_both!(
    what_is_not_understood_is_an_error_and_the_tenth_in_a_minute_closes_4500,
    a_binary_frame_closes_1003,
    invalid_utf_8_closes_1007,
    a_frame_over_the_limit_closes_1009,
    broken_framing_closes_1002,
    too_many_messages_are_warned_of_and_then_close_4429,
    one_socket_too_many_replaces_the_longest_silent,
    a_reader_that_stops_reading_is_closed_and_costs_at_most_the_newest,
);

async fn what_is_not_understood_is_an_error_and_the_tenth_in_a_minute_closes_4500(world: World) {
    let node = world.node().await;
    let mut client = node.dial_mitra(&node.mitra().await).await;
    let long = "x".repeat(65);
    let deep = format!(r#"{{"type":"ping","id":{}{}}}"#, "[".repeat(9), "]".repeat(9));
    let bad = [
        "nonsense".to_owned(),
        "[]".to_owned(),
        r#"{"type":"dance"}"#.to_owned(),
        r#"{"type":1}"#.to_owned(),
        r#"{"type":"online","volume":11}"#.to_owned(),
        r#"{"type":"refresh"}"#.to_owned(),
        format!(r#"{{"type":"ping","id":"{long}"}}"#),
        deep,
        r#"{"id":"c1"}"#.to_owned(),
    ];
    for text in &bad {
        client.send_text(text).await;
        let error = client.frame("error").await;
        assert_eq!((&error["code"], &error["retryable"]), (&json!("bad_message"), &json!(false)), "{text}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
    }
    client.is_alive().await;
    client.send_text(r#"{"type":"dance","id":"c9"}"#).await;
    assert_eq!(client.frame("error").await["id"], "c9");
    assert_eq!(client.closed().await, Closed::new(4500, "bad_message"));
}

async fn a_binary_frame_closes_1003(world: World) {
    let node = world.node().await;
    let mut client = node.dial_customer().await;
    client.ws.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(client.closed().await, Closed::new(1003, "binary_not_supported"));
}

async fn invalid_utf_8_closes_1007(world: World) {
    let node = world.node().await;
    let mut client = node.dial_customer().await;
    let frame = Frame::message(Bytes::from_static(&[0xff, 0xfe]), OpCode::Data(Data::Text), true);
    client.ws.send(Message::Frame(frame)).await.unwrap();
    assert_eq!(client.closed().await, Closed::new(1007, "invalid_utf8"));
}

async fn a_frame_over_the_limit_closes_1009(world: World) {
    let node = world.node().await;
    let mut client = node.dial_customer().await;
    client.send_text(&"x".repeat(4_096)).await;
    assert_eq!(client.frame("error").await["code"], "bad_message", "4096 bytes are within the limit");
    client.send_text(&"x".repeat(4_097)).await;
    assert_eq!(client.closed().await, Closed::new(1009, "too_large"));
    // One that is still being written when it is refused: what we say must not be overtaken by a reset.
    let mut client = node.dial_customer().await;
    client.send_text(&"x".repeat(16 << 20)).await;
    assert_eq!(client.closed().await, Closed::new(1009, "too_large"));
}

async fn broken_framing_closes_1002(world: World) {
    use tokio::io::AsyncWriteExt;
    let node = world.node().await;
    let mut client = node.dial_customer().await;
    // A reserved opcode, masked as a client must.
    client.ws.get_mut().write_all(&[0x83, 0x80, 0, 0, 0, 0]).await.unwrap();
    assert_eq!(client.closed().await, Closed::new(1002, "protocol_error"));
    let mut client = node.dial_customer().await;
    // Unmasked.
    client.ws.get_mut().write_all(&[0x81, 0x01, b'x']).await.unwrap();
    assert_eq!(client.closed().await, Closed::new(1002, "protocol_error"));
}

async fn too_many_messages_are_warned_of_and_then_close_4429(world: World) {
    let node = world.node().await;
    let mut client = node.dial_customer().await;
    for _ in 0..200 {
        if client.ws.send(Message::text(r#"{"type":"ping"}"#)).await.is_err() {
            break;
        }
    }
    let warning = client.frame("error").await;
    assert_eq!((&warning["code"], &warning["retryable"]), (&json!("rate_limited"), &json!(true)));
    assert_eq!(client.closed().await, Closed::new(4429, "rate_limited"));
}

async fn one_socket_too_many_replaces_the_longest_silent(world: World) {
    let node = world.node_with(&[("HADIR_LIMIT_SOCKETS_PER_MITRA", "3")]).await;
    let mitra = node.mitra().await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(node.dial_mitra(&mitra).await);
    }
    for talking in [0, 2] {
        // Times inside are milliseconds.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        sockets[talking].is_alive().await;
    }
    let mut newest = node.dial_mitra(&mitra).await;
    assert_eq!(sockets[1].closed().await, Closed::new(4509, "replaced"));
    for standing in [0, 2] {
        sockets[standing].is_alive().await;
    }
    newest.is_alive().await;
}

async fn a_reader_that_stops_reading_is_closed_and_costs_at_most_the_newest(world: World) {
    let node = world
        .node_with(&[
            ("HADIR_LIMIT_STALLED_READER_SECONDS", "0.5"),
            ("HADIR_LIMIT_MESSAGES_PER_SECOND", "100000"),
            ("HADIR_LIMIT_WRITE_BUFFER_BYTES", "4096"),
        ])
        .await;
    let mut client = Client::dial(node.public(), "/ws/availability", &node.token(Role::Customer)).await;
    // Asks and never reads the answers, until the kernel's buffers are full on both sides.
    let asking = async { while client.ws.feed(Message::text(r#"{"type":"ping"}"#)).await.is_ok() {} };
    let _ended = tokio::time::timeout(crate::support::PATIENCE, asking).await;
    crate::support::eventually("the stalled socket is let go", async || {
        (node.presence().hub().socket_counts().customer == 0).then_some(())
    })
    .await;
    let metrics = node.get("/metrics", "").await.text;
    assert!(
        metrics.lines().any(|line| line.starts_with("hadir_socket_closes_total") && line.contains("4410")),
        "closed as stalled"
    );
}
