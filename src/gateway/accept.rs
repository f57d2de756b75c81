//! The accept loop. Our own, because `axum::serve` installs no timer (a slow-loris is never timed
//! out) and does not know upgraded sockets when it stops.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::Router;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use super::{
    answering::{Heard, answer},
    places::{Phase, Place, PlaceLimits, Places, Slot},
};
use crate::lifecycle::{Hangup, Lifecycle};

/// Pause after the process ran out of descriptors; sockets that live are untouched meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long an ending connection may take to send its last answer.
const LAST_ANSWER: Duration = Duration::from_secs(5);
/// What a connection is told for which there is no place.
static NO_PLACE: LazyLock<String> = LazyLock::new(|| {
    let detail = "too many connections of this address are no sockets yet";
    let body = json!({ "type": "about:blank", "title": "Service Unavailable", "status": 503, "code": "overloaded", "detail": detail })
        .to_string();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
         content-type: application/problem+json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
});

/// Bounds on connections that are no socket.
#[derive(Clone, Debug)]
pub struct AcceptLimits {
    pub places: PlaceLimits,
    /// For the request line and headers.
    pub header_read_timeout: Duration,
    pub header_bytes: usize,
    /// How long a connection may idle between requests.
    pub keep_alive: Duration,
    /// Unacknowledged data for longer than this ends the connection (TCP_USER_TIMEOUT).
    pub dead_peer_after: Duration,
}

/// The address a request came from, in the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Accepts until `closing`, which is at the latest when everything is to stop. Connections that idle then are ended; those at
/// work may finish.
pub async fn serve(
    listener: Arc<TcpListener>,
    router: Router,
    limits: AcceptLimits,
    lifecycle: Lifecycle,
    closing: impl Future<Output = ()>,
) {
    let mut closing = std::pin::pin!(closing);
    let places = Places::new(limits.places.clone());
    let limits = Arc::new(limits);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = closing.as_mut() => return,
        };
        let Some((stream, peer)) = accepted else { continue };
        let Some(place) = places.take(peer) else {
            refuse(stream).await;
            continue;
        };
        if let Err(error) = tune(&stream, &limits) {
            tracing::debug!(%error, "a connection could not be tuned");
        }
        lifecycle.spawn(connection(stream, peer, place, router.clone(), Arc::clone(&limits), lifecycle.clone()));
    }
}

async fn accept(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept().await {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            // A peer that went away before it was accepted, or no descriptors left: the loop must live on.
            tracing::warn!(%error, "a connection could not be accepted");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Writes what the kernel takes at once, and lets go: a connection without a place costs nothing more.
async fn refuse(mut stream: TcpStream) {
    let _unheard = timeout(Duration::ZERO, stream.write_all(NO_PLACE.as_bytes())).await;
}

fn tune(stream: &TcpStream, limits: &AcceptLimits) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(limits.dead_peer_after))?;
    socket.set_tcp_user_timeout(Some(limits.dead_peer_after))
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    router: Router,
    limits: Arc<AcceptLimits>,
    lifecycle: Lifecycle,
) {
    let place = Arc::new(place);
    let slot = Arc::clone(&place.slot);
    let hangup = Hangup::default();
    let asked_to_hang_up = hangup.clone();
    let service = service_fn({
        let slot = Arc::clone(&slot);
        move |mut request: http::Request<Incoming>| {
            slot.enter(Phase::Busy);
            request.extensions_mut().insert(Peer(peer));
            request.extensions_mut().insert(hangup.clone());
            answer(router.clone(), request, Arc::clone(&place))
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        // A last resort; `overdue` tells heads from idling.
        .header_read_timeout(limits.keep_alive + limits.header_read_timeout)
        .max_buf_size(limits.header_bytes.max(8 * 1024))
        .serve_connection(TokioIo::new(Heard::new(stream, Arc::clone(&slot))), service)
        .with_upgrades();
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => Some(ended),
        () = overdue(&slot, &limits) => None,
        () = slot.evicted.cancelled() => None,
        () = asked_to_hang_up.wished() => None,
        () = lifecycle.stopped() => {
            serving.as_mut().graceful_shutdown();
            timeout(LAST_ANSWER, serving).await.ok()
        }
    };
    if let Some(Err(error)) = ended {
        tracing::trace!(%error, %peer, "a connection ended early");
    }
}

/// Completes when a head takes too long to arrive, or the connection idles for too long.
async fn overdue(slot: &Slot, limits: &AcceptLimits) {
    loop {
        let (phase, age) = slot.phase();
        let allowed = match phase {
            Phase::Head => limits.header_read_timeout,
            Phase::Idle => limits.keep_alive,
            // Requests have deadlines of their own.
            Phase::Busy => Duration::MAX,
        };
        if age >= allowed {
            return;
        }
        let wait = (allowed - age).min(limits.header_read_timeout.max(Duration::from_millis(10)));
        tokio::select! {
            () = sleep(wait) => {}
            () = slot.head_began.notified() => {}
        }
    }
}
