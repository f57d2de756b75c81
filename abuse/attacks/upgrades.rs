//! Upgrades that are refused, and sockets beyond what one address or one subject may have.

use std::sync::Arc;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::target::{Target, status};
use crate::kit::socket::Socket;

const FORGED: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIwMDAwMDAwMC0wMDAwLTQwMDAtODAwMC0wMDAwMDAwMDAwMDAiLCJyb2xlIjoibWl0cmEiLCJleHAiOjQxMDI0NDQ4MDB9.Zm9yZ2VkZm9yZ2VkZm9yZ2VkZm9yZ2VkZm9yZ2Vk";

fn upgrade(more: &str) -> String {
    format!(
        "GET /ws/mitra HTTP/1.1\r\nHost: hadir\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

pub async fn bad_token(target: Arc<Target>, _number: u64) -> Result<()> {
    let mut stream = target.connect().await?;
    let request = upgrade(&format!("Authorization: Bearer {FORGED}\r\n"));
    let mut answer = [0; 2_048];
    loop {
        stream.write_all(request.as_bytes()).await.context("write")?;
        target.counter.sent(1);
        let read = stream.read(&mut answer).await.context("read")?;
        target.counter.answered(status(&answer[..read]).unwrap_or("closed"));
        if read == 0 {
            return Ok(());
        }
    }
}

pub async fn no_first_message(target: Arc<Target>, _number: u64) -> Result<()> {
    let mut stream = target.connect().await?;
    stream.write_all(upgrade("").as_bytes()).await.context("write")?;
    target.counter.sent(1);
    target.hear_the_end(&mut stream).await
}

pub async fn one_customer(target: Arc<Target>, _number: u64) -> Result<()> {
    match target.customer(0).await {
        Ok(mut socket) => until_closed(&target, &mut socket).await,
        Err(error) => refused(&target, &error),
    }
}

pub async fn one_mitra(target: Arc<Target>, _number: u64) -> Result<()> {
    match target.mitra(0).await {
        Ok(mut socket) => until_closed(&target, &mut socket).await,
        Err(error) => refused(&target, &error),
    }
}

/// Reads until the server closes; counts the code.
pub async fn until_closed(target: &Target, socket: &mut Socket) -> Result<()> {
    while let Some(message) = socket.next().await {
        if let Message::Close(frame) = message.context("read")? {
            count_close(target, frame.map(|frame| u16::from(frame.code)));
            return Ok(());
        }
    }
    target.counter.answered("closed");
    Ok(())
}

/// Counts the code of a close frame.
pub fn count_close(target: &Target, code: Option<u16>) {
    target.counter.answered(code.map_or_else(|| "close without a code".to_owned(), |code| format!("close {code}")));
}

fn refused(target: &Target, error: &anyhow::Error) -> Result<()> {
    match error.root_cause().downcast_ref::<Error>() {
        Some(Error::Http(answer)) => target.counter.answered(answer.status().as_str()),
        _ => target.counter.answered("closed"),
    }
    Ok(())
}
