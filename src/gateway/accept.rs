//! The accept loop. Our own, because `axum::serve` installs no timer (a slow-loris is never timed out) and does not know
//! upgraded sockets when it stops.

use std::{convert::Infallible, net::SocketAddr, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{Router, response::Response};
use futures_util::FutureExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tower::ServiceExt;

use super::handshake::refuse;
use crate::{
    lifecycle::Lifecycle,
    protocol::{ErrorCode, Problem},
};

/// Pause after the process ran out of descriptors; sockets that live are untouched meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a client is told when a handler panicked; the panic itself is in the log.
const OUR_FAULT: &str = "something went wrong here; the log of this node says what";
/// How long an ending connection may take to send its last answer.
const LAST_ANSWER: Duration = Duration::from_secs(5);

/// Bounds on connections that have not yet sent a request.
#[derive(Clone, Copy, Debug)]
pub struct AcceptLimits {
    /// At most so many at once; others wait in the kernel's queue.
    pub pending_handshakes: usize,
    /// For the request line and headers.
    pub header_read_timeout: Duration,
    pub header_bytes: usize,
    /// What the kernel holds for a peer that does not read (SO_SNDBUF, of which it takes the double): left to itself it grows
    /// to megabytes before we notice.
    pub send_buffer_bytes: usize,
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
    // Connections inherit it.
    if let Err(error) = SockRef::from(&*listener).set_send_buffer_size(limits.send_buffer_bytes) {
        tracing::debug!(%error, "the send buffers could not be bounded");
    }
    let mut closing = std::pin::pin!(closing);
    let handshakes = Arc::new(Semaphore::new(limits.pending_handshakes));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &handshakes) => accepted,
            () = closing.as_mut() => return,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        if let Err(error) = tune(&stream, limits) {
            tracing::debug!(%error, "a connection could not be tuned");
        }
        let connection = connection(stream, peer, permit, router.clone(), limits, lifecycle.clone());
        lifecycle.spawn(connection);
    }
}

async fn accept(
    listener: &TcpListener,
    handshakes: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let permit = Arc::clone(handshakes).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, permit)),
        Err(error) => {
            // A peer that went away before it was accepted, or no descriptors left: the loop must live on.
            tracing::warn!(%error, "a connection could not be accepted");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

fn tune(stream: &TcpStream, limits: AcceptLimits) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(limits.dead_peer_after))?;
    socket.set_tcp_user_timeout(Some(limits.dead_peer_after))
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
    router: Router,
    limits: AcceptLimits,
    lifecycle: Lifecycle,
) {
    // Given back at the first request: from then on the connection is no longer a handshake.
    let permit = Mutex::new(Some(permit));
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        permit.lock().take();
        request.extensions_mut().insert(Peer(peer));
        answer(router.clone(), request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        .max_buf_size(limits.header_bytes.max(8 * 1024))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => Some(ended),
        () = lifecycle.stopped() => {
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_ANSWER, serving).await.ok()
        }
    };
    if let Some(Err(error)) = ended {
        tracing::trace!(%error, %peer, "a connection ended early");
    }
}

/// A bug in one handler must not take down the connection without a word.
async fn answer(router: Router, request: http::Request<Incoming>) -> Result<Response, Infallible> {
    match AssertUnwindSafe(router.oneshot(request)).catch_unwind().await {
        Ok(answered) => answered,
        Err(_) => Ok(*refuse(Problem::new(ErrorCode::Internal, OUR_FAULT))),
    }
}
