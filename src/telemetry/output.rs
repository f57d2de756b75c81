//! Standard error for log lines. A line may be lost, and is counted then; the process never waits for
//! a reader and never ends because of one.
//!
//! One thread writes, so that a pipe that is full and not read stops that thread and no other. The
//! queue before it is bounded; a line that finds it full is lost.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::counter::ConstCounter,
};
use tracing_subscriber::fmt::MakeWriter;

use super::flood;

/// Lines that wait for the writing thread.
const QUEUE: usize = 4_096;
/// Pause before a standard error that would block is tried again.
const RETRY: Duration = Duration::from_millis(10);
/// Attempts before such a line is lost.
const RETRIES: u32 = 100;
/// Longest wait for the queue to be written when the process ends.
const FLUSH: Duration = Duration::from_secs(1);

/// Least time between two lines about lines that were left out.
const TELL_OF_LEFT_OUT: Duration = Duration::from_secs(10);

/// Lines that nobody will ever read.
static LOST: AtomicU64 = AtomicU64::new(0);
static WRITER: OnceLock<Option<SyncSender<Entry>>> = OnceLock::new();

enum Entry {
    Line(Vec<u8>),
    /// Everything before it was written; tells so by hanging up.
    Flush(#[expect(dead_code, reason = "dropped, not read")] SyncSender<()>),
}

/// A place to write log lines to. Clones share one queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogOutput;

impl<'a> MakeWriter<'a> for LogOutput {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

impl Write for LogOutput {
    /// Takes one whole line: tracing formats it in memory and hands it over at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let sent = writer().is_some_and(|queue| queue.try_send(Entry::Line(line.to_vec())).is_ok());
        if !sent {
            LOST.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `None`: no thread could be started, so every line is lost and counted.
fn writer() -> Option<&'static SyncSender<Entry>> {
    let start = || {
        let (sender, lines) = sync_channel(QUEUE);
        let thread = thread::Builder::new().name("log".to_owned());
        thread.spawn(move || write_lines(&lines, io::stderr())).ok().map(|_| sender)
    };
    WRITER.get_or_init(start).as_ref()
}

fn write_lines(lines: &Receiver<Entry>, mut out: impl Write) {
    let mut is_torn = false;
    let mut told = 0;
    let (mut told_of_left_out, mut told_at) = (0, None::<Instant>);
    for entry in lines {
        let Entry::Line(line) = entry else { continue };
        // What follows half a line begins on a line of its own.
        let line = if std::mem::take(&mut is_torn) { [b"\n", &line[..]].concat() } else { line };
        match write_whole(&mut out, &line) {
            Ok(()) => {}
            Err(written) => {
                is_torn = written > 0;
                LOST.fetch_add(1, Relaxed);
                continue;
            }
        }
        let lost = LOST.load(Relaxed);
        if lost > told {
            tracing::warn!(lines = lost - told, "log lines could not be written and are lost");
            told = lost;
        }
        let left_out = flood::left_out();
        if left_out > told_of_left_out && told_at.is_none_or(|at| at.elapsed() >= TELL_OF_LEFT_OUT) {
            let lines = left_out - told_of_left_out;
            tracing::warn!(lines, "log lines were left out: more of one kind than HADIR_LOG_LINES_PER_SECOND");
            (told_of_left_out, told_at) = (left_out, Some(Instant::now()));
        }
    }
}

/// Writes all of a line, or says how much of it.
fn write_whole(out: &mut impl Write, line: &[u8]) -> Result<(), usize> {
    let (mut written, mut tries) = (0, 0);
    while written < line.len() {
        match out.write(&line[written..]) {
            Ok(0) => return Err(written),
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && tries < RETRIES => {
                tries += 1;
                thread::park_timeout(RETRY);
            }
            Err(_) => return Err(written),
        }
    }
    Ok(())
}

/// Waits until the lines logged so far are written, for a second at most. Call before the process ends.
pub fn flush() {
    let Some(Some(queue)) = WRITER.get() else { return };
    let (done, written) = sync_channel(1);
    let until = Instant::now() + FLUSH;
    let mut mark = Entry::Flush(done);
    while let Err(full) = queue.try_send(mark) {
        let std::sync::mpsc::TrySendError::Full(again) = full else { return };
        if Instant::now() >= until {
            return;
        }
        mark = again;
        thread::park_timeout(RETRY);
    }
    // Hung up, or too late: either way the process ends now.
    let _end = written.recv_timeout(until.saturating_duration_since(Instant::now()));
}

/// Writes a sentence for people to standard error; one that cannot be written is lost.
pub fn say(sentence: impl fmt::Display) {
    flush();
    let _lost = writeln!(io::stderr(), "{sentence}");
}

/// The metrics of lines that were not written.
#[derive(Debug)]
pub(super) struct LostLines;

impl Collector for LostLines {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut counter = |name: &str, help: &str, lines: u64| {
            let lines = ConstCounter::new(lines);
            lines.encode(encoder.encode_descriptor(name, help, None, lines.metric_type())?)
        };
        counter("log_lines_lost", "Log lines that could not be written", LOST.load(Relaxed))?;
        counter("log_lines_left_out", "Log lines over the rate of their kind", flood::left_out())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then fails once.
    struct Full(Vec<u8>, Option<usize>);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.1 {
                Some(0) => {
                    self.1 = None;
                    Err(ErrorKind::StorageFull.into())
                }
                Some(room) => {
                    let taken = room.min(bytes.len());
                    self.1 = Some(room - taken);
                    self.0.extend_from_slice(&bytes[..taken]);
                    Ok(taken)
                }
                None => {
                    self.0.extend_from_slice(bytes);
                    Ok(bytes.len())
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_follows_half_a_line_begins_on_a_line_of_its_own() {
        let (sender, lines) = sync_channel(4);
        for line in ["first\n", "second\n", "third\n"] {
            sender.send(Entry::Line(line.into())).expect("room");
        }
        drop(sender);
        let mut out = Full(Vec::new(), Some(9));
        write_lines(&lines, &mut out);
        assert_eq!(String::from_utf8(out.0).expect("text"), "first\nsec\nthird\n");
    }
}
