//! Newcomers: a client of another address that opens a socket again and again, as a phone does that reconnects.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::kit::{
    distribution::Distribution,
    socket::{self, Dial, leave},
    tokens::Mint,
};

/// Between two of them.
const PAUSE: Duration = Duration::from_millis(100);
/// One that waits longer was kept out.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Seen {
    opened: Option<Distribution>,
    kept_out: u64,
    why: Option<String>,
}

/// A task that keeps opening sockets.
pub struct Newcomers {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// What the newcomers saw since they were last asked.
pub struct Report {
    /// From the connect to the first frame.
    pub opened: Distribution,
    pub kept_out: u64,
    pub why: Option<String>,
}

impl Newcomers {
    /// Begins with the subject of this number.
    pub fn start(dial: Dial, mint: Arc<Mint>, number: u64) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                loop {
                    let began = Instant::now();
                    let opened = open(&dial, &mint, number).await;
                    let taken = began.elapsed();
                    {
                        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                        match opened {
                            Ok(()) => seen.opened.get_or_insert_with(Distribution::new).record(taken),
                            Err(error) => {
                                seen.kept_out += 1;
                                seen.why.get_or_insert_with(|| format!("{error:#}"));
                            }
                        }
                    }
                    sleep(PAUSE).await;
                }
            }
        });
        Self { seen, task }
    }

    /// What they saw since this was last asked.
    pub fn report(&self) -> Report {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        Report { opened: seen.opened.unwrap_or_else(Distribution::new), kept_out: seen.kept_out, why: seen.why }
    }
}

impl Drop for Newcomers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn open(dial: &Dial, mint: &Mint, number: u64) -> Result<()> {
    let (mut socket, _) =
        timeout(PATIENCE, socket::open(dial, mint, number)).await.context("no socket within a minute")??;
    leave(&mut socket).await;
    Ok(())
}

/// Whether the public listener says that it is ready.
///
/// # Errors
/// It does not answer in time.
pub async fn is_ready(address: SocketAddr) -> Result<bool> {
    let answer = timeout(PATIENCE, reqwest::get(format!("http://{address}/readyz"))).await;
    Ok(answer.context("/readyz does not answer")??.status().is_success())
}
