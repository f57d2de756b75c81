//! The proxies of `deploy/proxies/`, run for real in front of two nodes: WebSockets, event streams, addresses, origins.

mod proxy;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt, future::join_all};
use hadir::domain::Role;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use self::proxy::{ALL, HOST, Kind, Proxy};
use crate::support::{Backend, Node, PATIENCE, World, eventually};

const TRUSTED: (&str, &str) = ("HADIR_TRUSTED_PROXIES", "127.0.0.1/32");
const HOME: [u8; 4] = [127, 0, 0, 7];
/// Longer than the 60 s after which proxies cut quiet connections unless they are told otherwise.
const BEYOND_DEFAULTS: Duration = Duration::from_secs(63);

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Opens a socket through a proxy, or says with which status it was refused.
async fn open(proxy: &Proxy, from: [u8; 4], path: &str, headers: &[(&'static str, &str)]) -> Result<Socket, u16> {
    let mut request = format!("wss://{HOST}{path}").into_client_request().expect("a request");
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a header"));
    }
    let stream = proxy.connect(from).await;
    match timeout(PATIENCE, client_async(request, stream)).await.expect("an answer in time") {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("neither upgraded nor refused: {error}; {}", proxy.log()),
    }
}

async fn text(socket: &mut Socket, wanted: &str) -> String {
    let reading = async {
        loop {
            match socket.next().await.expect("the socket lives").expect("a frame") {
                Message::Text(text) if text.contains(wanted) => return text.to_string(),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    };
    timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("never seen: {wanted}"))
}

/// A GET through the proxy on a connection of its own; the head and the first bytes of the body.
async fn get(proxy: &Proxy, path: &str, token: &str) -> String {
    let mut stream = proxy.connect(HOME).await;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let reading = async {
        loop {
            let read = stream.read_buf(&mut answer).await.unwrap_or(0);
            let text = String::from_utf8_lossy(&answer);
            if read == 0 || text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.contains("\"any\":")) {
                return text.into_owned();
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("an answer in time")
}

async fn two_nodes(world: &World, settings: &[(&str, &str)]) -> (Node, Node) {
    (world.node_with(settings).await, world.node_with(settings).await)
}

/// Starts a proxy in front of two nodes and waits until it hands requests on.
async fn in_front(kind: Kind, nodes: (&Node, &Node)) -> Proxy {
    let proxy = Proxy::before(kind, [nodes.0.public(), nodes.1.public()]);
    eventually("the proxy is ready", async || get(&proxy, "/readyz", "").await.contains(" 200 ").then_some(())).await;
    proxy
}

async fn clients_keep_their_address_and_origin(kind: Kind) {
    let world = World::new(Backend::Clustered).await;
    let (first, second) = two_nodes(&world, &[TRUSTED, ("HADIR_LIMIT_UNAUTHENTICATED_SOCKETS_PER_IP", "1")]).await;
    let proxy = in_front(kind, (&first, &second)).await;

    // One socket for each node may wait for its first message, of each address.
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..6 {
        match open(&proxy, HOME, "/ws/availability", &[]).await {
            Ok(socket) => held.push(socket),
            Err(status) => {
                assert_eq!(status, 429);
                refused += 1;
            }
        }
    }
    assert!(held.len() <= 2 && refused >= 4, "{} are held", held.len());
    let another = open(&proxy, [127, 0, 0, 8], "/ws/availability", &[]).await;
    assert!(another.is_ok(), "another address has places of its own");
    let forged = open(&proxy, HOME, "/ws/availability", &[("x-forwarded-for", "203.0.113.9")]).await;
    assert_eq!(forged.err(), Some(429), "what a client says of its address is not believed");

    let token = format!("Bearer {}", first.token(Role::Customer));
    let own = format!("https://{HOST}");
    let mut socket = open(&proxy, HOME, "/ws/availability", &[("authorization", &token), ("origin", &own)])
        .await
        .expect("a page of the same host, behind TLS that ends at the proxy");
    text(&mut socket, "\"availability\"").await;
    let foreign = [("authorization", token.as_str()), ("origin", "https://evil.example")];
    assert_eq!(open(&proxy, HOME, "/ws/availability", &foreign).await.err(), Some(403));

    let streamed = get(&proxy, "/api/client/availability/stream", &first.token(Role::Customer)).await;
    assert!(streamed.contains("\"any\":"), "an event goes out at once: {streamed}");
}

#[tokio::test]
async fn clients_keep_their_address_and_origin_behind_nginx() {
    clients_keep_their_address_and_origin(Kind::Nginx).await;
}

#[tokio::test]
async fn clients_keep_their_address_and_origin_behind_haproxy() {
    clients_keep_their_address_and_origin(Kind::HaProxy).await;
}

#[tokio::test]
async fn clients_keep_their_address_and_origin_behind_caddy() {
    clients_keep_their_address_and_origin(Kind::Caddy).await;
}

#[tokio::test]
async fn requests_are_answered_while_a_node_stops() {
    let world = World::new(Backend::Clustered).await;
    for kind in ALL {
        let (first, second) = two_nodes(&world, &[TRUSTED]).await;
        let proxy = in_front(kind, (&first, &second)).await;
        let token = second.token(Role::Customer);
        let asking = async {
            for _ in 0..40 {
                let answer = get(&proxy, "/api/client/availability", &token).await;
                assert!(answer.starts_with("HTTP/1.1 200"), "{kind:?}: {answer}; {}", proxy.log());
            }
        };
        tokio::join!(asking, first.stop());
    }
}

/// Nothing is sent in either direction for longer than proxies allow by default.
#[tokio::test]
async fn a_quiet_socket_outlives_the_defaults_of_proxies() {
    let world = World::new(Backend::Clustered).await;
    let quiet = [
        TRUSTED,
        ("HEARTBEAT_INTERVAL_SECONDS", "100"),
        ("HEARTBEAT_SUSPECT_SECONDS", "300"),
        ("MITRA_OFFLINE_AFTER_SECONDS", "600"),
        ("HADIR_MAX_SILENCE_MS", "200000"),
    ];
    let (first, second) = two_nodes(&world, &quiet).await;
    let mitra = first.mitra().await;
    let token = format!("Bearer {}", first.token_of(mitra.id, Role::Mitra));
    let mut waiting = Vec::new();
    for kind in ALL {
        let proxy = in_front(kind, (&first, &second)).await;
        let socket = open(&proxy, HOME, "/ws/mitra", &[("authorization", &token)]).await.expect("upgraded");
        waiting.push(async move {
            let (mut socket, proxy) = (socket, proxy);
            text(&mut socket, "\"status\"").await;
            tokio::time::sleep(BEYOND_DEFAULTS).await;
            socket.send(Message::text(r#"{"type":"ping"}"#)).await.expect("sent");
            text(&mut socket, "\"pong\"").await;
            drop(proxy);
        });
    }
    join_all(waiting).await;
}
