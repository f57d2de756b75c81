//! Requests without pause, and readers that do not read.

use std::{future::pending, sync::Arc};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::target::{Target, status};
use crate::kit::tokens::Role;

fn request(target: &Target, number: u64, path: &str) -> Result<String> {
    let token = target.token(number, Role::Customer)?;
    Ok(format!("GET {path} HTTP/1.1\r\nHost: hadir\r\nAuthorization: Bearer {token}\r\n\r\n"))
}

pub async fn requests(target: Arc<Target>, number: u64) -> Result<()> {
    let mut stream = target.connect().await?;
    let request = request(&target, number, "/api/client/availability")?;
    let mut answer = [0; 4_096];
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

pub async fn unread_answers(target: Arc<Target>, number: u64) -> Result<()> {
    let mut stream = target.connect().await?;
    let request = request(&target, number, "/api/client/availability")?;
    loop {
        stream.write_all(request.as_bytes()).await.context("write")?;
        target.counter.sent(1);
    }
}

pub async fn unread_streams(target: Arc<Target>, number: u64) -> Result<()> {
    let mut stream = target.connect().await?;
    let request = request(&target, number, "/api/client/availability/stream")?;
    stream.write_all(request.as_bytes()).await.context("write")?;
    target.counter.sent(1);
    pending().await
}
