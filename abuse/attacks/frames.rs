//! Frames of mitras that are signed in: too many, too large, too odd.

use std::{io::ErrorKind, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use futures_util::{FutureExt, StreamExt};
use tokio::{io::AsyncWriteExt, task::yield_now, time::sleep};
use tokio_tungstenite::tungstenite::Message;

use super::{
    target::Target,
    upgrades::{count_close, until_closed},
};

/// Frames that are written at once.
const CHUNK: usize = 16;
/// Before a full connection is written to again.
const FULL: Duration = Duration::from_millis(1);
const TEXT: u8 = 0x81;
const TEXT_BEGINS: u8 = 0x01;
const GOES_ON: u8 = 0x00;
const PING: u8 = 0x89;

/// A frame as a client sends it. Its mask is zero, so that the payload stays as it is.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

pub async fn messages(target: Arc<Target>, number: u64) -> Result<()> {
    flood(&target, number, &[], &frame(TEXT, br#"{"type":"ping"}"#)).await
}

pub async fn pings(target: Arc<Target>, number: u64) -> Result<()> {
    flood(&target, number, &[], &frame(PING, b"")).await
}

pub async fn fragments(target: Arc<Target>, number: u64) -> Result<()> {
    flood(&target, number, &frame(TEXT_BEGINS, b""), &frame(GOES_ON, b"")).await
}

pub async fn bytes(target: Arc<Target>, number: u64) -> Result<()> {
    let text = format!(r#"{{"type":"ping","filler":"{}"}}"#, "a".repeat(3_970));
    flood(&target, number, &[], &frame(TEXT, text.as_bytes())).await
}

pub async fn deep_json(target: Arc<Target>, number: u64) -> Result<()> {
    let text = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
    flood(&target, number, &[], &frame(TEXT, text.as_bytes())).await
}

pub async fn huge(target: Arc<Target>, number: u64) -> Result<()> {
    let mut claim = vec![TEXT, 0x80 | 127];
    claim.extend((1_u64 << 62).to_be_bytes());
    claim.extend([0; 4]);
    flood(&target, number, &claim, &[b'a'; 1_024]).await
}

/// Writes the beginning once and then the rest again and again, until the server closes.
async fn flood(target: &Target, number: u64, beginning: &[u8], rest: &[u8]) -> Result<()> {
    let mut socket = target.mitra(number).await?;
    let chunk = rest.repeat(CHUNK);
    socket.get_mut().write_all(beginning).await.context("write")?;
    let mut left = chunk.as_slice();
    loop {
        // A server that reads no more is still heard.
        while let Some(message) = socket.next().now_or_never() {
            match message {
                Some(Ok(Message::Close(frame))) => {
                    count_close(target, frame.map(|frame| u16::from(frame.code)));
                    return Ok(());
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("read"),
                None => return Ok(()),
            }
        }
        match socket.get_ref().try_write(left) {
            Ok(wrote) => left = &left[wrote..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(FULL).await,
            Err(_) => return until_closed(target, &mut socket).await,
        }
        if left.is_empty() {
            target.counter.sent(CHUNK as u64);
            left = &chunk;
        }
        yield_now().await;
    }
}
