//! Connections that never become sockets.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use super::target::{Target, status};
use crate::kit::tokens::Role;

const TRICKLE: Duration = Duration::from_millis(100);

pub async fn silent(target: Arc<Target>, _number: u64) -> Result<()> {
    let mut stream = target.connect().await?;
    target.hear_the_end(&mut stream).await
}

pub async fn idle(target: Arc<Target>, _number: u64) -> Result<()> {
    let mut stream = target.connect().await?;
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: hadir\r\n\r\n").await.context("write")?;
    target.counter.sent(1);
    let mut answer = [0; 1_024];
    let read = stream.read(&mut answer).await.context("read")?;
    target.counter.answered(status(&answer[..read]).unwrap_or("closed"));
    while stream.read(&mut answer).await.context("read")? > 0 {}
    Ok(())
}

pub async fn slow_head(target: Arc<Target>, _number: u64) -> Result<()> {
    let stream = target.connect().await?;
    trickle(&target, stream, b"GET /livez HTTP/1.1\r\nHost: hadir\r\nX-Filler: ").await
}

pub async fn slow_body(target: Arc<Target>, number: u64) -> Result<()> {
    let mut stream = target.connect().await?;
    let token = target.token(number, Role::Mitra)?;
    let head = format!(
        "POST /api/mitra/status/online HTTP/1.1\r\nHost: hadir\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.context("write")?;
    trickle(&target, stream, b"").await
}

/// Sends the beginning at once and then a byte at a time, for as long as the server listens.
async fn trickle(target: &Target, stream: TcpStream, beginning: &[u8]) -> Result<()> {
    let (mut read, mut write) = stream.into_split();
    write.write_all(beginning).await.context("write")?;
    target.counter.sent(1);
    let sending = async {
        while write.write_all(b"a").await.is_ok() {
            sleep(TRICKLE).await;
        }
    };
    let mut answer = [0; 512];
    let read = tokio::select! {
        () = sending => 0,
        read = read.read(&mut answer) => read.context("read")?,
    };
    target.counter.answered(status(&answer[..read]).unwrap_or("closed"));
    Ok(())
}

pub async fn reset(target: Arc<Target>, _number: u64) -> Result<()> {
    loop {
        let stream = target.connect().await?;
        stream.set_zero_linger()?;
        drop(stream);
    }
}

pub async fn garbage(target: Arc<Target>, number: u64) -> Result<()> {
    // The beginning of a TLS handshake, and bytes of no protocol.
    let bytes: &[u8] = if number.is_multiple_of(2) { &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3] } else { &[0xff; 600] };
    let mut stream = target.connect().await?;
    stream.write_all(bytes).await.context("write")?;
    target.counter.sent(1);
    target.hear_the_end(&mut stream).await
}
