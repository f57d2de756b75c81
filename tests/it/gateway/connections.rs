//! Connections that are no socket: how many an address may hold, how long they may idle, and what is
//! no good HTTP.

use std::{net::SocketAddr, time::Duration};

use hadir::domain::{Actor, Role};
use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::support::{Client, Node, PATIENCE, World, eventually, on_both};

on_both!(
    silent_connections_of_one_address_keep_nobody_else_out,
    one_address_that_keeps_opening_leaves_places_for_others,
    idle_connections_after_a_request_give_way,
    a_trusted_proxy_may_hold_more,
    a_connection_idles_longer_than_a_head_may_take,
    a_connection_that_idles_for_too_long_ends,
    a_head_that_dribbles_is_cut,
    a_request_without_or_with_two_hosts_is_400,
    head_begins_no_websocket,
    a_stalled_event_stream_ends_with_a_disconnect,
    a_stalled_event_stream_ends_with_its_token,
    event_streams_count_in_both_figures_of_sockets,
    a_preflight_lets_a_stream_resume,
);

/// A connection from an address of this machine.
async fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(format!("{from}:0").parse().expect("an address")).expect("bound");
    socket.connect(to).await.expect("connected")
}

/// Whether the other side has ended the connection.
async fn has_ended(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 1_024];
    loop {
        match timeout(Duration::from_millis(1), stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(_)) => {}
            Err(_) => return false,
        }
    }
}

/// Waits until the other side has ended the connection.
async fn ends(stream: &mut TcpStream) {
    let ended = async { while !has_ended(stream).await {} };
    timeout(PATIENCE, ended).await.expect("the connection ends");
}

async fn answer(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut text = String::new();
    let mut buffer = [0; 4_096];
    let reading = async {
        while !text.contains("\r\n\r\n") {
            let length = stream.read(&mut buffer).await.expect("read");
            assert!(length > 0, "ended instead of answering: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    };
    timeout(PATIENCE, reading).await.expect("an answer");
    text
}

const READY: &str = "GET /readyz HTTP/1.1\r\nhost: hadir\r\n\r\n";
const FEW: [(&str, &str); 3] = [
    ("HADIR_LIMIT_HTTP_CONNECTIONS", "20"),
    ("HADIR_LIMIT_HTTP_CONNECTIONS_PER_ADDRESS", "8"),
    ("HADIR_LIMIT_HEADER_READ_SECONDS", "60"),
];

/// How many of these connections the server has not ended.
async fn left(streams: &mut [TcpStream]) -> usize {
    let mut left = 0;
    for stream in streams {
        left += usize::from(!has_ended(stream).await);
    }
    left
}

async fn silent_connections_of_one_address_keep_nobody_else_out(world: World) {
    let node = world.node_with(&FEW).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(connect("127.0.0.66", node.public()).await);
    }
    // Another address is answered, and opens sockets.
    let mut other = connect("127.0.0.67", node.public()).await;
    assert!(answer(&mut other, READY).await.starts_with("HTTP/1.1 200"));
    Client::dial(node.public(), "/ws/availability", &node.token(Role::Customer)).await;
    let given_way = async { while left(&mut silent).await > 8 {} };
    timeout(PATIENCE, given_way).await.expect("at most eight silent connections stay");
    // Many addresses together hold no more than there are places, and newcomers still get one.
    let mut many = Vec::new();
    for address in 70..90 {
        many.push(connect(&format!("127.0.0.{address}"), node.public()).await);
    }
    eventually("a place when all are taken", async || {
        let mut late = connect("127.0.0.99", node.public()).await;
        late.write_all(READY.as_bytes()).await.ok()?;
        let mut buffer = [0; 12];
        // It is answered or hung up on.
        late.read_exact(&mut buffer).await.ok()?;
        (&buffer == b"HTTP/1.1 200").then_some(())
    })
    .await;
}

async fn one_address_that_keeps_opening_leaves_places_for_others(world: World) {
    // So few places in all that the bound per address alone would let one address take them.
    let few = [("HADIR_LIMIT_HTTP_CONNECTIONS", "10"), ("HADIR_LIMIT_HTTP_CONNECTIONS_PER_ADDRESS", "256")];
    let node = world.node_with(&few).await;
    let address = node.public();
    let flood = tokio::spawn(async move {
        let mut held = std::collections::VecDeque::new();
        loop {
            held.push_back(connect("127.0.0.66", address).await);
            if held.len() > 30 {
                held.pop_front();
            }
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..20 {
        let mut other = connect("127.0.0.67", address).await;
        assert!(answer(&mut other, READY).await.starts_with("HTTP/1.1 200"));
    }
    flood.abort();
}

async fn idle_connections_after_a_request_give_way(world: World) {
    let node = world.node_with(&FEW).await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        let mut stream = connect("127.0.0.66", node.public()).await;
        answer(&mut stream, READY).await;
        idle.push(stream);
    }
    eventually("a newcomer is answered once an idle one is old enough", async || {
        let mut newcomer = connect("127.0.0.66", node.public()).await;
        answer(&mut newcomer, READY).await.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    let given_way = async { while left(&mut idle).await == 8 {} };
    timeout(PATIENCE, given_way).await.expect("an idle one gave way");
}

async fn a_trusted_proxy_may_hold_more(world: World) {
    let node = world.node_with(&[&FEW[..], &[("HADIR_TRUSTED_PROXIES", "127.0.0.66")]].concat()).await;
    let mut held = Vec::new();
    for _ in 0..15 {
        let mut stream = connect("127.0.0.66", node.public()).await;
        assert!(answer(&mut stream, READY).await.starts_with("HTTP/1.1 200"));
        held.push(stream);
    }
    assert_eq!(left(&mut held).await, 15);
}

async fn a_connection_idles_longer_than_a_head_may_take(world: World) {
    let settings = [("HADIR_LIMIT_HEADER_READ_SECONDS", "0.2"), ("HADIR_LIMIT_KEEP_ALIVE_SECONDS", "30")];
    let node = world.node_with(&settings).await;
    let mut stream = connect("127.0.0.1", node.public()).await;
    answer(&mut stream, READY).await;
    // A head that began later has had its time meanwhile.
    let mut dribbling = connect("127.0.0.1", node.public()).await;
    dribbling.write_all(b"GET /readyz HTT").await.expect("sent");
    ends(&mut dribbling).await;
    assert!(answer(&mut stream, READY).await.starts_with("HTTP/1.1 200"));
}

async fn a_connection_that_idles_for_too_long_ends(world: World) {
    let node = world.node_with(&[("HADIR_LIMIT_KEEP_ALIVE_SECONDS", "0.2")]).await;
    let mut stream = connect("127.0.0.1", node.public()).await;
    answer(&mut stream, READY).await;
    ends(&mut stream).await;
}

async fn a_head_that_dribbles_is_cut(world: World) {
    let node = world.node_with(&[("HADIR_LIMIT_HEADER_READ_SECONDS", "0.3")]).await;
    let mut first = connect("127.0.0.1", node.public()).await;
    first.write_all(b"GET /readyz HTT").await.expect("sent");
    let mut second = connect("127.0.0.1", node.public()).await;
    answer(&mut second, READY).await;
    second.write_all(b"GET /readyz HTT").await.expect("sent");
    for stream in [&mut first, &mut second] {
        ends(stream).await;
    }
}

async fn a_request_without_or_with_two_hosts_is_400(world: World) {
    let node = world.node().await;
    for request in [
        "GET /readyz HTTP/1.1\r\n\r\n",
        "GET /readyz HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET /ws/availability HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ] {
        let mut stream = connect("127.0.0.1", node.public()).await;
        let text = answer(&mut stream, request).await;
        assert!(text.starts_with("HTTP/1.1 400") && text.contains("bad_request"), "{request}: {text}");
    }
    let mut old = connect("127.0.0.1", node.public()).await;
    assert!(answer(&mut old, "GET /readyz HTTP/1.0\r\n\r\n").await.contains(" 200 "), "HTTP/1.0 needs none");
}

async fn head_begins_no_websocket(world: World) {
    let node = world.node().await;
    let mut stream = connect("127.0.0.1", node.public()).await;
    let request = format!(
        "HEAD /ws/availability HTTP/1.1\r\nhost: hadir\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: Bearer {}\r\n\r\n",
        node.token(Role::Customer)
    );
    let text = answer(&mut stream, &request).await;
    assert!(text.starts_with("HTTP/1.1 405") && text.contains("allow: GET"), "{text}");
}

async fn stream_of(node: &Node, token: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    // A reader that stalls soon.
    socket.set_recv_buffer_size(4_096).expect("set");
    let mut stream = socket.connect(node.public()).await.expect("connected");
    let request =
        format!("GET /api/client/availability/stream HTTP/1.1\r\nhost: hadir\r\nauthorization: Bearer {token}\r\n\r\n");
    let head = answer(&mut stream, &request).await;
    assert!(head.contains("text/event-stream"), "{head}");
    stream
}

fn sockets(node: &Node) -> u64 {
    node.presence().hub().socket_counts().customer
}

/// Comments fill every buffer between soon; a reader that takes none is not ended for that.
const CHATTY: [(&str, &str); 3] = [
    ("HADIR_SSE_COMMENT_SECONDS", "0.001"),
    ("HADIR_LIMIT_WRITE_BUFFER_BYTES", "4096"),
    ("HADIR_LIMIT_STALLED_READER_SECONDS", "600"),
];

/// The server's end of a connection as the kernel knows it: its state, and the bytes that the peer has not taken.
fn server_end(node: &Node, stream: &TcpStream) -> Option<(u8, u64)> {
    let ours = stream.local_addr().expect("connected").port();
    let pair = [format!(":{:04X}", node.public().port()), format!(":{ours:04X}")];
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    let line = table.lines().find(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(1).is_some_and(|local| local.ends_with(&pair[0]))
            && words.get(2).is_some_and(|peer| peer.ends_with(&pair[1]))
    })?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let waiting = words[4].split(':').next()?;
    Some((u8::from_str_radix(words[3], 16).ok()?, u64::from_str_radix(waiting, 16).ok()?))
}

/// Waits until the server cannot write any more to this reader.
async fn stalled(node: &Node, stream: &TcpStream) {
    let mitra = node.mitra().await;
    let filled = async {
        let (mut most, mut unchanged) = (0, 0);
        while most == 0 || unchanged < 5 {
            // News, of which a reader is told at once.
            node.presence().go_online(mitra.id, Actor::Mitra).await.expect("online");
            node.presence().go_offline(mitra.id, Actor::Mitra).await.expect("offline");
            let waiting = server_end(node, stream).map_or(0, |(_, waiting)| waiting);
            unchanged = if waiting == most { unchanged + 1 } else { 0 };
            most = waiting;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, filled).await.expect("the buffers between fill");
}

/// Waits until the server has closed its end, though this end still reads nothing.
async fn is_let_go(node: &Node, stream: &TcpStream) {
    const ESTABLISHED: u8 = 1;
    eventually("the server closes a connection that nobody reads", async || {
        server_end(node, stream).is_none_or(|(state, _)| state != ESTABLISHED).then_some(())
    })
    .await;
}

async fn a_stalled_event_stream_ends_with_its_token(world: World) {
    let node = world.node_with(&CHATTY).await;
    let subject = hadir::domain::SubjectId(uuid::Uuid::new_v4());
    let token = node.token_for(subject, Role::Customer, None, Duration::from_secs(3));
    let stream = stream_of(&node, &token).await;
    eventually("its token ends", async || (sockets(&node) == 0).then_some(())).await;
    is_let_go(&node, &stream).await;
}

async fn a_stalled_event_stream_ends_with_a_disconnect(world: World) {
    let node = world.node_with(&CHATTY).await;
    let subject = hadir::domain::SubjectId(uuid::Uuid::new_v4());
    let mut stream = stream_of(&node, &node.token_of(subject, Role::Customer)).await;
    assert_eq!(sockets(&node), 1);
    stalled(&node, &stream).await;
    let body = json!({ "sub": subject });
    let reply = node.ask(Method::POST, "/internal/disconnect", &node.token(Role::Service), Some(body)).await;
    assert_eq!(reply.status.as_u16(), 200);
    eventually("the stream is no socket any more", async || (sockets(&node) == 0).then_some(())).await;
    is_let_go(&node, &stream).await;
    ends(&mut stream).await;
}

async fn event_streams_count_in_both_figures_of_sockets(world: World) {
    let node = world.node().await;
    let stream = stream_of(&node, &node.token(Role::Customer)).await;
    let gauge = async || {
        let text = reqwest::get(format!("http://{}/metrics", node.internal())).await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with("hadir_sockets{role=\"customer\"}")).expect("a line");
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    eventually("one in both", async || (sockets(&node) == 1 && gauge().await == 1).then_some(())).await;
    drop(stream);
    eventually("none in both", async || (sockets(&node) == 0 && gauge().await == 0).then_some(())).await;
}

async fn a_preflight_lets_a_stream_resume(world: World) {
    let node = world.node().await;
    let reply = reqwest::Client::new()
        .request(Method::OPTIONS, format!("http://{}/api/client/availability/stream", node.public()))
        .header("origin", crate::support::world::ORIGIN)
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "authorization, last-event-id, cache-control, traceparent")
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status().as_u16(), 204);
    let allowed = reply.headers()["access-control-allow-headers"].to_str().unwrap();
    for header in ["authorization", "last-event-id", "cache-control", "traceparent"] {
        assert!(allowed.contains(header), "{header} in {allowed}");
    }
}
