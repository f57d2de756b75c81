//! One client socket: dialled from one of many source addresses, small in memory.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, Utf8Bytes, client::IntoClientRequest, protocol::WebSocketConfig},
};

use serde::{Deserialize, Serialize};

use super::tokens::{Mint, Role, subject};

/// Source addresses that dials are spread over: 127.0.0.2 and on. Each has some 28,000 ports per destination.
const SOURCES: u64 = 60;
const READ_BUFFER_BYTES: usize = 1_024;
const GOODBYE: Duration = Duration::from_secs(2);

/// A client socket.
pub type Socket = WebSocketStream<TcpStream>;

/// Sockets to open.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dial {
    pub address: SocketAddr,
    pub path: String,
    /// Whose token each brings; the floor wants none.
    pub role: Option<Role>,
    /// The number of the first subject; each socket has one of its own.
    pub first_subject: u64,
    pub sockets: usize,
    /// Dials at work at the same time.
    pub at_once: usize,
    /// A socket counts as open when it has read a frame of this type; without one, at the `101`.
    pub until: Option<String>,
    /// Then each goes online and waits for its `ack`.
    pub online: bool,
}

/// A TCP connection from the source address of this number.
pub async fn connect(address: SocketAddr, number: u64) -> Result<TcpStream> {
    let source = Ipv4Addr::new(127, 0, 0, 2 + (number % SOURCES) as u8);
    let socket = TcpSocket::new_v4()?;
    // The port is chosen at connect, per destination: otherwise the source address runs out of them.
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    socket.bind(SocketAddr::new(IpAddr::V4(source), 0))?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Opens the socket of a subject as a dial says, up to the frame that it is to wait for; returns that frame.
pub async fn open(dial: &Dial, mint: &Mint, number: u64) -> Result<(Socket, Utf8Bytes)> {
    open_on(connect(dial.address, number).await.context("connect")?, dial, mint, number).await
}

/// The same on a connection that is there.
pub async fn open_on(stream: TcpStream, dial: &Dial, mint: &Mint, number: u64) -> Result<(Socket, Utf8Bytes)> {
    let mut request = format!("ws://{}{}", dial.address, dial.path).into_client_request()?;
    if let Some(role) = dial.role {
        let bearer = format!("Bearer {}", mint.token(subject(number), role)?);
        request.headers_mut().insert("authorization", bearer.parse()?);
    }
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES).write_buffer_size(0);
    let (mut socket, _) = client_async_with_config(request, stream, Some(config)).await.context("upgrade")?;
    let mut last = Utf8Bytes::default();
    while dial.until.as_ref().is_some_and(|until| kind(&last) != until) {
        last = next_text(&mut socket).await.context("first frames")?;
    }
    if dial.online {
        command(&mut socket, "online").await?;
    }
    Ok((socket, last))
}

/// Sends a command until it is acknowledged; a store that is busy says so.
pub async fn command(socket: &mut Socket, name: &str) -> Result<()> {
    loop {
        socket.send(Message::text(format!(r#"{{"type":"{name}","id":"c"}}"#))).await?;
        loop {
            let text = next_text(socket).await?;
            match kind(&text) {
                "ack" => return Ok(()),
                "error" if text.contains(r#""retryable":true"#) => break,
                "error" => bail!("{name} is refused: {text}"),
                _ => {}
            }
        }
    }
}

async fn next_text(socket: &mut Socket) -> Result<Utf8Bytes> {
    loop {
        match socket.next().await.context("the server hung up")?? {
            Message::Text(text) => return Ok(text),
            Message::Close(frame) => bail!("the server closed: {frame:?}"),
            _ => {}
        }
    }
}

/// The `type` of a frame, which both servers write first.
pub fn kind(text: &str) -> &str {
    text.strip_prefix(r#"{"type":""#).and_then(|rest| rest.split('"').next()).unwrap_or_default()
}

/// Whether an availability frame says that somebody is there.
pub fn any(text: &str) -> Option<bool> {
    (kind(text) == "availability").then(|| text.contains(r#""any":true"#))
}

/// Hangs up in order; a server that does not answer is not waited for.
pub async fn leave(socket: &mut Socket) {
    let goodbye = async {
        socket.close(None).await.ok()?;
        while socket.next().await?.is_ok() {}
        Some(())
    };
    let _unheard = timeout(GOODBYE, goodbye).await;
}
