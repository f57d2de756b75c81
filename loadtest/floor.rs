//! The floor: the least that an axum server with WebSockets costs. Tuned buffers, one task per socket that selects on the
//! socket and one `watch`, no authentication, no state. What Hadir costs more is what presence costs.

use std::{io::Write, sync::Arc, time::Duration};

use anyhow::Result;
use axum::{
    Router,
    extract::{
        State,
        ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade},
    },
    http::header,
    response::{IntoResponse, Response},
    routing::get,
    serve::ListenerExt,
};
use serde::Deserialize;
use tokio::{
    io::AsyncReadExt,
    net::TcpListener,
    sync::watch,
    time::{Instant, sleep_until},
};

/// As Hadir's: what an idle socket holds to read into.
const READ_BUFFER_BYTES: usize = 1_024;
const WRITE_BUFFER_BYTES: usize = 65_536;
const FRAME_BYTES: usize = 4_096;
const BACKLOG: u32 = 4_096;

/// What REST answers, always.
const CONSTANT: &str = r#"{"epoch":"0123456789abcdef0123456789abcdef","version":40,"any":true,"available":20,"as_of":"2026-01-01T00:00:43.805Z","source":"memory","stale":false}"#;
const ETAG: &str = r#"W/"0123456789abcdef0123456789abcdef-40""#;

struct Floor {
    news: watch::Sender<Utf8Bytes>,
    ping_every: Option<Duration>,
}

#[derive(Deserialize)]
struct Command<'a> {
    r#type: &'a str,
    id: Option<&'a str>,
}

/// Serves on a free port, which is the first line of the output, until standard input ends.
///
/// # Errors
/// The port cannot be taken.
pub async fn run(ping_seconds: Option<f64>) -> Result<()> {
    let floor = Arc::new(Floor {
        news: watch::Sender::new(snapshot(false, 0)),
        ping_every: ping_seconds.map(Duration::from_secs_f64),
    });
    let router = Router::new()
        .route("/ws/availability", get(watcher))
        .route("/ws/mitra", get(mitra))
        .route("/bare", get(bare))
        .route("/constant", get(constant))
        .with_state(floor);
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener: TcpListener = socket.listen(BACKLOG)?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    let listener = listener.tap_io(|stream| {
        // A socket that cannot be tuned is only slower.
        let _untuned = stream.set_nodelay(true);
    });
    let mut input = tokio::io::stdin();
    tokio::select! {
        served = axum::serve(listener, router).into_future() => served?,
        _ = input.read_u8() => {}
    }
    Ok(())
}

/// The same bytes as Hadir's frame.
fn snapshot(any: bool, version: u64) -> Utf8Bytes {
    format!(
        r#"{{"type":"availability","epoch":"0123456789abcdef0123456789abcdef","version":{version},"any":{any},"available":{},"as_of":"2026-01-01T00:00:43.805Z","source":"memory","stale":false}}"#,
        u64::from(any),
    )
    .into()
}

async fn watcher(State(floor): State<Arc<Floor>>, upgrade: WebSocketUpgrade) -> Response {
    tuned(upgrade).on_upgrade(move |socket| session(socket, floor, true))
}

async fn mitra(State(floor): State<Arc<Floor>>, upgrade: WebSocketUpgrade) -> Response {
    tuned(upgrade).on_upgrade(move |socket| session(socket, floor, false))
}

async fn bare(State(floor): State<Arc<Floor>>, upgrade: WebSocketUpgrade) -> Response {
    mitra(State(floor), upgrade).await
}

async fn constant() -> Response {
    ([(header::CONTENT_TYPE, "application/json"), (header::ETAG, ETAG)], CONSTANT).into_response()
}

fn tuned(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(FRAME_BYTES)
        .max_frame_size(FRAME_BYTES)
}

async fn session(mut socket: WebSocket, floor: Arc<Floor>, watches: bool) {
    let mut news = floor.news.subscribe();
    if watches {
        news.mark_changed();
    }
    let mut ping_at = floor.ping_every.map(|every| Instant::now() + every);
    loop {
        let sent = tokio::select! {
            biased;
            Ok(()) = news.changed(), if watches => {
                let frame = news.borrow_and_update().clone();
                socket.send(Message::Text(frame)).await
            }
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => answer(&mut socket, &floor, &text).await,
                Some(Ok(_)) => Ok(()),
                Some(Err(_)) | None => return,
            },
            () = due(ping_at) => {
                ping_at = floor.ping_every.map(|every| Instant::now() + every);
                socket.send(Message::Ping(Default::default())).await
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn answer(socket: &mut WebSocket, floor: &Floor, text: &str) -> Result<(), axum::Error> {
    let command: Command<'_> = serde_json::from_str(text).map_err(axum::Error::new)?;
    let frame = match command.r#type {
        "online" | "offline" => {
            floor.news.send_modify(|news| *news = snapshot(command.r#type == "online", 41));
            format!(r#"{{"type":"ack","id":"{}"}}"#, command.id.unwrap_or_default()).into()
        }
        _ => Utf8Bytes::from_static(r#"{"type":"pong"}"#),
    };
    socket.send(Message::Text(frame)).await
}
