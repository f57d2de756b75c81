//! A plain WebSocket client of the tests.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest, handshake::client::Request, http},
};

use super::PATIENCE;

/// How a socket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    pub code: u16,
    pub reason: String,
}

impl Closed {
    pub fn new(code: u16, reason: &str) -> Self {
        Self { code, reason: reason.to_owned() }
    }
}

/// A socket of a mitra, a customer or a dashboard.
pub struct Client {
    pub ws: WebSocketStream<TcpStream>,
    pub welcome: Value,
    /// A mitra's first status.
    pub first_status: Value,
    /// The answer to the upgrade.
    pub response: http::Response<Option<Vec<u8>>>,
}

/// The request that opens a socket, without a token.
pub fn opening(address: SocketAddr, path: &str) -> Request {
    format!("ws://{address}{path}").into_client_request().expect("a request")
}

/// The same with a header.
pub fn with_header(mut request: Request, name: &'static str, value: &str) -> Request {
    request.headers_mut().insert(name, value.parse().expect("a header"));
    request
}

impl Client {
    /// Dials with the token in the header and reads the welcome.
    pub async fn dial(address: SocketAddr, path: &str, token: &str) -> Self {
        let request = with_header(opening(address, path), "authorization", &format!("Bearer {token}"));
        let mut client = Self::open(address, request).await.expect("upgraded");
        client.welcome = client.frame("welcome").await;
        client
    }

    /// Opens a socket and reads nothing, or says with what it was refused: status, code and headers.
    pub async fn open(address: SocketAddr, request: Request) -> Result<Self, Box<http::Response<Value>>> {
        let stream = TcpStream::connect(address).await.expect("connected");
        match client_async(request, stream).await {
            Ok((ws, response)) => Ok(Self { ws, welcome: Value::Null, first_status: Value::Null, response }),
            Err(Error::Http(response)) => Err(Box::new(
                response.map(|body| body.and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or(Value::Null)),
            )),
            Err(error) => panic!("neither upgraded nor refused: {error}"),
        }
    }

    /// The next text frame.
    pub async fn next(&mut self) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = timeout_at(deadline, self.ws.next()).await.expect("a frame in time");
            match message.expect("the socket lives").expect("a frame") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Close(frame) => panic!("closed instead: {frame:?}"),
                _ => {}
            }
        }
    }

    /// The next frame that satisfies; those before are dropped.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            loop {
                let frame = self.next().await;
                if wanted(&frame) {
                    return frame;
                }
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never seen: {what}"))
    }

    /// The next frame of this type.
    pub async fn frame(&mut self, kind: &str) -> Value {
        self.until(kind, |frame| frame["type"] == kind).await
    }

    /// A watcher's next frame with this count.
    pub async fn sees(&mut self, available: u64) -> Value {
        self.until(&format!("{available} available"), |frame| frame["available"] == available).await
    }

    pub async fn send(&mut self, message: Value) {
        self.send_text(&message.to_string()).await;
    }

    pub async fn send_text(&mut self, text: &str) {
        self.ws.send(Message::text(text)).await.expect("sent");
    }

    /// Sends a command and returns its answer, `ack` or `error`; frames before it are dropped.
    pub async fn command(&mut self, kind: &str) -> Value {
        let id = uuid::Uuid::new_v4().to_string();
        self.send(json!({ "type": kind, "id": id })).await;
        self.until(kind, |frame| frame["id"] == id.as_str()).await
    }

    /// A command that must be accepted.
    pub async fn commands(&mut self, kind: &str) {
        let answer = self.command(kind).await;
        assert_eq!(answer["type"], "ack", "{answer}");
    }

    /// Waits for the end; frames before it are dropped.
    pub async fn closed(&mut self) -> Closed {
        let waiting = async {
            loop {
                match self.ws.next().await {
                    Some(Ok(Message::Close(Some(frame)))) => {
                        return Closed { code: frame.code.into(), reason: frame.reason.to_string() };
                    }
                    Some(Ok(Message::Close(None))) => return Closed::new(1005, ""),
                    Some(Ok(_)) => {}
                    None | Some(Err(_)) => return Closed::new(1006, ""),
                }
            }
        };
        timeout(PATIENCE, waiting).await.expect("closed in time")
    }

    /// The far end of the socket is alive: it answers a ping, so every frame sent to us before was received.
    pub async fn is_alive(&mut self) {
        self.send(json!({ "type": "ping" })).await;
        self.frame("pong").await;
    }
}
