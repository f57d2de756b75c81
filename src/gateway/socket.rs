//! One WebSocket: tuned buffers, writes with a deadline, closes that say why.

use std::{
    borrow::Cow,
    future::ready,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, SinkExt, StreamExt, future::Either};
use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Bytes, Error, Message,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{
    GatewaySettings,
    answering::Heard,
    frame_meter::{Excess, FrameLimits, Metered},
};
use crate::{
    hub::Connection,
    protocol::{Close, Encoded},
};

/// A dozen pings. It grows for a longer message, which few clients ever send, and is all that an idle socket holds to read
/// into; tungstenite's own default is 128 KiB.
const READ_BUFFER_BYTES: usize = 256;

/// Frames smaller than this are gathered until the flush that ends each send, so that two of them are one write. Nothing is
/// held for it.
const GATHERED_BYTES: usize = 1_024;

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// We close, and say why.
    Close(Close),
    /// The peer closed with this code, or is gone (1006).
    Gone(u16),
}

impl End {
    /// One of few words for it. What an operator wrote as a reason is no word for a metric.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Close(Close { reason: Cow::Borrowed(reason), .. }) => reason,
            Self::Close(_) => "closed",
            Self::Gone(_) => "gone",
        }
    }

    /// The client sent what cannot be read any further, and may still be sending.
    fn is_of_the_wire(&self) -> bool {
        matches!(self, Self::Close(Close { code: 1002 | 1007 | 1009 | 4429, .. }))
    }
}

impl From<Close> for End {
    fn from(close: Close) -> Self {
        Self::Close(close)
    }
}

/// Stands for every close code of a client's own (RFC 6455 section 7.4.2).
const PRIVATE: u16 = 4000;
/// No close frame was received (RFC 6455 section 7.1.5).
const ABNORMAL: u16 = 1006;

pub(super) struct Socket {
    ws: WebSocketStream<Metered>,
    stalled_after: Duration,
    close_within: Duration,
}

impl Socket {
    /// Takes over the connection when the client has its `101`. `None`: it went away before.
    /// `started`: the beginning of the hub's clock.
    pub(super) async fn open(upgrade: OnUpgrade, settings: &GatewaySettings, started: Instant) -> Option<Self> {
        let upgraded = upgrade.await.ok()?;
        // Down to the bare stream: the HTTP machinery and its buffers are freed.
        let Parts { io, read_buf, .. } = upgraded.downcast::<TokioIo<Heard>>().ok()?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(GATHERED_BYTES)
            .max_write_buffer_size(settings.write_buffer_bytes)
            .max_message_size(Some(settings.frame_bytes))
            .max_frame_size(Some(settings.frame_bytes));
        let limits = FrameLimits {
            fragments: settings.fragments_per_message,
            message_within: settings.message_timeout,
            bytes_per_second: settings.bytes_per_second,
        };
        let stream = Metered::new(io.into_inner().into_inner(), &read_buf, limits, started);
        let ws = if read_buf.is_empty() {
            WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await
        } else {
            WebSocketStream::from_partially_read(stream, read_buf.to_vec(), Role::Server, Some(config)).await
        };
        Some(Self { ws, stalled_after: settings.stalled_reader_timeout, close_within: settings.close_timeout })
    }

    /// The next message. Pings are answered underneath at the next poll.
    pub(super) async fn next(&mut self) -> Result<Message, End> {
        match self.ws.next().await {
            Some(Ok(Message::Binary(_))) => Err(Close::BINARY.into()),
            Some(Ok(Message::Close(frame))) => Err(End::Gone(frame.map_or(1005, |frame| frame.code.into()))),
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) => Err(end_of(&error)),
            None => Err(End::Gone(ABNORMAL)),
        }
    }

    /// Whether the client is to be told that it sends too many bytes.
    pub(super) fn take_byte_warning(&mut self) -> bool {
        self.ws.get_mut().take_warning()
    }

    /// When the message that the client is sending must be complete, in the hub's milliseconds.
    pub(super) fn message_due_ms(&self) -> u64 {
        self.ws.get_ref().message_due_ms()
    }

    /// Sends a frame. It is tried at once, before anybody awaits: what the kernel takes, nearly every frame, needs neither a
    /// timer nor room for one in the session's task. A reader that makes no progress for the stated time is given up, and so
    /// is one that stalls when the socket is ordered to close.
    pub(super) fn send<'a>(
        &'a mut self,
        connection: &'a Connection,
        frame: Encoded,
    ) -> impl Future<Output = Result<(), End>> + Send + 'a {
        self.write(connection, Message::Text(frame))
    }

    /// A protocol ping; its pong is heard like any frame.
    pub(super) fn ping<'a>(
        &'a mut self,
        connection: &'a Connection,
    ) -> impl Future<Output = Result<(), End>> + Send + 'a {
        self.write(connection, Message::Ping(Bytes::new()))
    }

    /// A ping and a frame in one write.
    pub(super) fn ping_and_send<'a>(
        &'a mut self,
        connection: &'a Connection,
        frame: Encoded,
    ) -> impl Future<Output = Result<(), End>> + Send + 'a {
        // Not taken: something is still being written. A reader that stalls needs no ping, and an error comes again below.
        let _taken = self.ws.feed(Message::Ping(Bytes::new())).now_or_never();
        self.write(connection, Message::Text(frame))
    }

    fn write<'a>(
        &'a mut self,
        connection: &'a Connection,
        message: Message,
    ) -> impl Future<Output = Result<(), End>> + Send + 'a {
        let stalled_after = self.stalled_after;
        let mut sending = self.ws.send(message);
        if let Some(sent) = (&mut sending).now_or_never() {
            return Either::Left(ready(sent.map_err(|error| end_of(&error))));
        }
        Either::Right(Box::pin(async move {
            tokio::select! {
                biased;
                sent = timeout(stalled_after, sending) => match sent {
                    Ok(sent) => sent.map_err(|error| end_of(&error)),
                    Err(_) => Err(Close::STALLED.into()),
                },
                close = ordered(connection) => Err(End::Close(close)),
            }
        }))
    }

    /// Ends the session: says why, waits briefly for the peer's own close, and lets go. Returns the code for the metrics.
    pub(super) async fn close(mut self, end: End) -> u16 {
        let is_of_the_wire = end.is_of_the_wire();
        let (code, frame) = match end {
            End::Close(close) => {
                let reason = Encoded::from(close.reason.as_ref());
                (close.code, Some(CloseFrame { code: CloseCode::from(close.code), reason }))
            }
            // The answer to the peer's close is already queued; a closed socket has nobody to tell. The peer's private codes
            // are counted as one: a label is never for the client to choose.
            End::Gone(code @ 1000..=1015) => (code, None),
            End::Gone(_) => (PRIVATE, None),
        };
        let farewell = async {
            if let Some(frame) = frame {
                self.ws.close(Some(frame)).await?;
            } else {
                self.ws.flush().await?;
            }
            if is_of_the_wire {
                // A connection that is let go with unread bytes is reset, and the reset overtakes what we said.
                let stream = self.ws.get_mut().stream();
                stream.shutdown().await?;
                let mut unread = [0; 1_024];
                while stream.read(&mut unread).await? > 0 {}
            }
            while self.ws.next().await.transpose()?.is_some() {}
            Ok::<(), Error>(())
        };
        // A peer that does not say goodbye in time is not waited for.
        let _unheard = timeout(self.close_within, farewell).await;
        code
    }
}

/// Completes when the socket is ordered to close.
async fn ordered(connection: &Connection) -> Close {
    loop {
        if let Some(close) = connection.ordered() {
            return close.clone();
        }
        connection.woken().await;
    }
}

/// tungstenite sends no close frame of its own on an error: which one the peer gets is decided here.
fn end_of(error: &Error) -> End {
    match error {
        Error::Capacity(_) => Close::TOO_LARGE.into(),
        Error::Utf8(_) => Close::INVALID_UTF8.into(),
        Error::Protocol(problem) => match problem {
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake => End::Gone(ABNORMAL),
            _ => Close::PROTOCOL_ERROR.into(),
        },
        Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<Excess>()) {
            Some(Excess::Fragments) => Close::FRAGMENTS.into(),
            Some(Excess::Unfinished) => Close::UNFINISHED.into(),
            Some(Excess::Bytes) => Close::RATE_LIMITED.into(),
            None => End::Gone(ABNORMAL),
        },
        _ => End::Gone(ABNORMAL),
    }
}
