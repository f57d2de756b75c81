//! Bounds that the WebSocket library does not have: fragments of a message, the time until a message
//! is complete, and bytes a second.
//!
//! Sits below the library and follows the frame headers (RFC 6455 section 5.2) of what it reads. The
//! library bounds the bytes of a message, so that fragments without any would cost a client nothing.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::rate_limit::{TokenBucket, Verdict};

/// The bounds of one socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameLimits {
    pub(super) fragments: u32,
    pub(super) message_within: Duration,
    /// Sustained; also the size of a burst.
    pub(super) bytes_per_second: u32,
}

/// A client went beyond a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    Fragments,
    Unfinished,
    Bytes,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Excess {}

/// Follows the frames in a stream of bytes.
struct FrameMeter {
    limits: FrameLimits,
    bytes: TokenBucket,
    /// Bytes of the current header that were read, and how many it has.
    header: u8,
    header_length: u8,
    /// The first byte of the current header: FIN and the opcode.
    first: u8,
    length: u64,
    /// Where the extended length ends in the header.
    length_end: u8,
    payload_left: u64,
    fragments: u32,
    /// A data message has begun and its last fragment has not ended.
    open: bool,
    /// Since when a frame or a message is incomplete; 0: none is.
    incomplete_ms: u64,
    /// The client was not told yet that it sends too much.
    warn: bool,
}

impl FrameMeter {
    fn new(limits: FrameLimits, now_ms: u64) -> Self {
        Self {
            limits,
            bytes: TokenBucket::new(limits.bytes_per_second, limits.bytes_per_second, now_ms),
            header: 0,
            header_length: 2,
            first: 0,
            length: 0,
            length_end: 2,
            payload_left: 0,
            fragments: 0,
            open: false,
            incomplete_ms: 0,
            warn: false,
        }
    }

    fn read(&mut self, mut bytes: &[u8], now_ms: u64) -> Result<(), Excess> {
        match self.bytes.take(bytes.len() as u64, now_ms) {
            Verdict::Allow => {}
            Verdict::Warn => self.warn = true,
            Verdict::Close => return Err(Excess::Bytes),
        }
        while let Some((byte, rest)) = bytes.split_first() {
            if self.payload_left > 0 {
                let skipped = self.payload_left.min(bytes.len() as u64);
                self.payload_left -= skipped;
                bytes = &bytes[skipped as usize..];
            } else {
                self.header_byte(*byte, now_ms)?;
                bytes = rest;
            }
            if self.payload_left == 0 && self.header == self.header_length {
                self.frame_ended();
            }
        }
        if self.is_overdue(now_ms) { Err(Excess::Unfinished) } else { Ok(()) }
    }

    fn header_byte(&mut self, byte: u8, now_ms: u64) -> Result<(), Excess> {
        match self.header {
            0 => {
                self.first = byte;
                if self.incomplete_ms == 0 {
                    self.incomplete_ms = now_ms.max(1);
                }
                if self.is_data() {
                    self.fragments += 1;
                    if self.fragments > self.limits.fragments {
                        return Err(Excess::Fragments);
                    }
                }
            }
            1 => {
                let (short, mask) = (byte & 0x7f, if byte & 0x80 == 0 { 0 } else { 4 });
                let extended = match short {
                    126 => 2,
                    127 => 8,
                    _ => 0,
                };
                self.length = if extended == 0 { short.into() } else { 0 };
                // The extended length follows, most significant byte first, and then the mask.
                self.length_end = 2 + extended;
                self.header_length = self.length_end + mask;
            }
            at if at < self.length_end => self.length = self.length << 8 | u64::from(byte),
            _ => {}
        }
        self.header += 1;
        if self.header == self.header_length {
            self.payload_left = self.length;
        }
        Ok(())
    }

    fn is_data(&self) -> bool {
        self.first & 0x08 == 0
    }

    fn frame_ended(&mut self) {
        self.header = 0;
        self.header_length = 2;
        if self.is_data() {
            self.open = self.first & 0x80 == 0;
            if !self.open {
                self.fragments = 0;
            }
        }
        if !self.open {
            self.incomplete_ms = 0;
        }
    }

    /// When the current message is too old to be completed; `u64::MAX`: nothing is incomplete.
    fn due_ms(&self) -> u64 {
        match self.incomplete_ms {
            0 => u64::MAX,
            since => since + self.limits.message_within.as_millis() as u64,
        }
    }

    fn is_overdue(&self, now_ms: u64) -> bool {
        now_ms >= self.due_ms()
    }
}

/// A connection whose incoming frames are bounded. Times are milliseconds since `started`, plus one,
/// as the hub counts them.
pub(super) struct Metered {
    stream: TcpStream,
    meter: FrameMeter,
    started: Instant,
}

impl Metered {
    /// `already_read`: what the HTTP side read beyond the request.
    pub(super) fn new(stream: TcpStream, already_read: &[u8], limits: FrameLimits, started: Instant) -> Self {
        let now_ms = now_ms(started);
        let mut meter = FrameMeter::new(limits, now_ms);
        // An excess in these few bytes shows again with the next ones.
        let _seen_again = meter.read(already_read, now_ms);
        Self { stream, meter, started }
    }

    /// The bare connection, for the last words.
    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Whether the client is to be told that it sends too many bytes; true once for each excess.
    pub(super) fn take_warning(&mut self) -> bool {
        std::mem::take(&mut self.meter.warn)
    }

    /// When the current message must be complete.
    pub(super) fn message_due_ms(&self) -> u64 {
        self.meter.due_ms()
    }
}

fn now_ms(started: Instant) -> u64 {
    started.elapsed().as_millis() as u64 + 1
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let now = now_ms(self.started);
        match self.meter.read(&buffer.filled()[before..], now) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(excess) => Poll::Ready(Err(io::Error::other(excess))),
        }
    }
}

impl AsyncWrite for Metered {
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

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FrameLimits =
        FrameLimits { fragments: 4, message_within: Duration::from_secs(10), bytes_per_second: 1_000_000 };

    /// A masked frame of a client.
    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload {
            0..=125 => bytes.push(0x80 | payload as u8),
            126..=65_535 => {
                bytes.push(0x80 | 126);
                bytes.extend((payload as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend([1, 2, 3, 4]);
        bytes.resize(bytes.len() + payload, 0x81);
        bytes
    }

    const TEXT: u8 = 0x81;
    const TEXT_BEGINS: u8 = 0x01;
    const CONTINUES: u8 = 0x00;
    const CONTINUES_LAST: u8 = 0x80;
    const PING: u8 = 0x89;

    /// Fed in pieces of each size, so that headers and payloads are cut everywhere.
    fn read(bytes: &[u8], now_ms: u64) -> Result<(), Excess> {
        let mut results = Vec::new();
        for piece in [1, 2, 3, 7, 64, bytes.len().max(1)] {
            let mut meter = FrameMeter::new(LIMITS, 1);
            results.push(bytes.chunks(piece).try_for_each(|part| meter.read(part, now_ms)));
        }
        results.dedup();
        assert_eq!(results.len(), 1, "the same however it is cut");
        results[0]
    }

    #[test]
    fn whole_messages_of_every_length_are_followed() {
        let lengths = [0, 1, 125, 126, 127, 4_096, 65_535, 65_536, 70_000];
        let bytes: Vec<u8> = lengths.iter().flat_map(|length| frame(TEXT, *length)).collect();
        assert_eq!(read(&bytes, 1), Ok(()));
        let mut meter = FrameMeter::new(LIMITS, 1);
        meter.read(&bytes, 1).expect("allowed");
        assert_eq!(meter.due_ms(), u64::MAX, "nothing is incomplete at the end");
    }

    #[test]
    fn a_message_has_so_many_fragments_and_no_more_control_frames_aside() {
        let message = |fragments: usize| {
            let mut bytes = frame(TEXT_BEGINS, 3);
            for _ in 2..fragments {
                bytes.extend(frame(CONTINUES, 0));
                bytes.extend(frame(PING, 2));
            }
            bytes.extend(frame(CONTINUES_LAST, 1));
            bytes
        };
        assert_eq!(read(&[message(4), message(4), message(2)].concat(), 1), Ok(()));
        assert_eq!(read(&message(5), 1), Err(Excess::Fragments));
    }

    #[test]
    fn a_message_that_is_not_completed_in_time_is_an_excess() {
        for beginning in [frame(TEXT_BEGINS, 3), frame(TEXT, 500)[..40].to_vec(), vec![TEXT]] {
            let mut meter = FrameMeter::new(LIMITS, 1);
            meter.read(&beginning, 5_000).expect("allowed");
            assert_eq!(meter.due_ms(), 15_000);
            assert_eq!(meter.read(&[], 14_999), Ok(()));
            assert_eq!(meter.read(&[], 15_000), Err(Excess::Unfinished));
        }
    }

    #[test]
    fn bytes_beyond_the_rate_are_warned_and_then_an_excess() {
        let limits = FrameLimits { bytes_per_second: 1_000, ..LIMITS };
        let mut meter = FrameMeter::new(limits, 1);
        let ping = frame(PING, 94);
        assert!((0..10).all(|_| meter.read(&ping, 1).is_ok()) && !meter.warn);
        assert!(meter.read(&ping, 1).is_ok() && std::mem::take(&mut meter.warn));
        assert!((0..5).all(|_| meter.read(&ping, 1).is_ok()));
        assert_eq!(meter.read(&ping, 1), Err(Excess::Bytes));
    }
}
