//! What surrounds the router on one connection: requests that are no good HTTP, handlers that panic,
//! and what the connection is at, so that its [`Place`] knows.

use std::{
    convert::Infallible,
    io,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{Router, body::Body, response::Response};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tower::ServiceExt;

use super::{
    handshake::refuse,
    places::{Phase, Place, Slot},
};
use crate::protocol::{ErrorCode, Problem};

/// What a client is told when a handler panicked; the panic itself is in the log.
const OUR_FAULT: &str = "something went wrong here; the log of this node says what";

/// Answers one request. A bug in one handler must not take down the connection without a word.
pub(super) async fn answer(
    router: Router,
    request: Request<Incoming>,
    place: Arc<Place>,
) -> Result<Response, Infallible> {
    if !has_one_host(&request) {
        let detail = "a request names its host once: send one Host header";
        return Ok(counted(*refuse(Problem::new(ErrorCode::BadRequest, detail)), place));
    }
    let response = match AssertUnwindSafe(router.oneshot(request)).catch_unwind().await {
        Ok(answered) => answered?,
        Err(_) => *refuse(Problem::new(ErrorCode::Internal, OUR_FAULT)),
    };
    if is_event_stream(&response) {
        place.release();
    }
    Ok(counted(response, place))
}

/// RFC 9112 section 3.2: HTTP/1.1 without a Host header, or with two, is a bad request. Two could make
/// a proxy and this server see different hosts.
fn has_one_host(request: &Request<Incoming>) -> bool {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    hosts == 1 || (hosts == 0 && request.version() < Version::HTTP_11)
}

fn is_event_stream(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// The connection idles from the moment the body is sent.
fn counted(response: Response, place: Arc<Place>) -> Response {
    response.map(|body| Body::new(Counted { body, place }))
}

struct Counted {
    body: Body,
    place: Arc<Place>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.place.slot.enter(Phase::Idle);
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that says when something arrives.
pub(super) struct Heard {
    stream: TcpStream,
    slot: Arc<Slot>,
}

impl Heard {
    pub(super) fn new(stream: TcpStream, slot: Arc<Slot>) -> Self {
        Self { stream, slot }
    }

    /// The bare connection, when it becomes a socket.
    pub(super) fn into_inner(self) -> TcpStream {
        self.stream
    }
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.slot.heard();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
