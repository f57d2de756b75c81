//! Bad input on an open socket, and everything that is bounded: the exact close code and reason.

use futures_util::{FutureExt, SinkExt};
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
    fragments_without_end_close_1009_however_empty,
    a_message_that_is_never_completed_closes_1009,
    too_many_bytes_are_warned_of_and_then_close_4429,
    pongs_go_on_while_a_refresh_waits_for_its_key,
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

fn fragment(text: &'static [u8], code: Data, is_last: bool) -> Message {
    Message::Frame(Frame::message(Bytes::from_static(text), OpCode::Data(code), is_last))
}

async fn fragments_without_end_close_1009_however_empty(world: World) {
    let node = world.node().await;
    let mut client = node.dial_customer().await;
    // 64 fragments are a message.
    client.ws.feed(fragment(br#"{"type":"#, Data::Text, false)).await.unwrap();
    for _ in 0..62 {
        client.ws.feed(fragment(b"", Data::Continue, false)).await.unwrap();
    }
    client.ws.send(fragment(br#""ping"}"#, Data::Continue, true)).await.unwrap();
    client.frame("pong").await;
    // More are not, though none of them carries a byte.
    client.ws.feed(fragment(b"", Data::Text, false)).await.unwrap();
    for _ in 0..64 {
        client.ws.feed(fragment(b"", Data::Continue, false)).await.unwrap();
    }
    client.ws.flush().await.unwrap();
    assert_eq!(client.closed().await, Closed::new(1009, "too_many_fragments"));
}

async fn a_message_that_is_never_completed_closes_1009(world: World) {
    use tokio::io::AsyncWriteExt;
    let node = world.node_with(&[("HADIR_LIMIT_MESSAGE_SECONDS", "0.3")]).await;
    // A first fragment, half a frame, half a header: the client is heard no more.
    let mut fragments = node.dial_customer().await;
    fragments.ws.send(fragment(b"{", Data::Text, false)).await.unwrap();
    let mut half_a_frame = node.dial_customer().await;
    half_a_frame.ws.get_mut().write_all(&[0x81, 0x85, 0, 0, 0, 0, b'{']).await.unwrap();
    let mut half_a_header = node.dial_customer().await;
    half_a_header.ws.get_mut().write_all(&[0x81]).await.unwrap();
    for client in [&mut fragments, &mut half_a_frame, &mut half_a_header] {
        assert_eq!(client.closed().await, Closed::new(1009, "unfinished_message"));
    }
}

async fn too_many_bytes_are_warned_of_and_then_close_4429(world: World) {
    let settings = [("HADIR_LIMIT_BYTES_PER_SECOND", "4096"), ("HADIR_LIMIT_MESSAGES_PER_SECOND", "100000")];
    let node = world.node_with(&settings).await;
    let mut client = node.dial_customer().await;
    let ping = Bytes::from_static(&[b'x'; 100]);
    for _ in 0..1_000 {
        if client.ws.send(Message::Ping(ping.clone())).await.is_err() {
            break;
        }
    }
    let warning = client.frame("error").await;
    assert_eq!((&warning["code"], &warning["retryable"]), (&json!("rate_limited"), &json!(true)));
    assert_eq!(client.closed().await, Closed::new(4429, "rate_limited"));
}

async fn pongs_go_on_while_a_refresh_waits_for_its_key(world: World) {
    // A provider of keys that accepts and never answers, after the start.
    let provider = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", provider.local_addr().unwrap());
    drop(provider.accept().now_or_never());
    let hanging = tokio::spawn(async move {
        let mut held = Vec::new();
        let (first, _) = provider.accept().await.unwrap();
        drop(first);
        loop {
            held.push(provider.accept().await.unwrap());
        }
    });
    let node = world.node_with(&[("AUTH_JWKS_URL", &url)]).await;
    let mut client = node.dial_customer().await;
    let header = jsonwebtoken::Header {
        kid: Some("unknown".to_owned()),
        ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA)
    };
    let token = jsonwebtoken::encode(&header, &json!({}), &crate::support::provider::any_key()).unwrap();
    client.send(json!({ "type": "refresh", "token": token, "id": "r1" })).await;
    for _ in 0..5 {
        client.is_alive().await;
    }
    // One at a time.
    client.send(json!({ "type": "refresh", "token": token, "id": "r2" })).await;
    let refused = client.until("r2", |frame| frame["id"] == "r2").await;
    assert_eq!(refused["code"], "rate_limited", "{refused}");
    let answer = client.until("r1", |frame| frame["id"] == "r1").await;
    assert_eq!(answer["code"], "unauthorized", "{answer}");
    client.is_alive().await;
    hanging.abort();
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
            ("HADIR_LIMIT_BYTES_PER_SECOND", "1000000000"),
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
