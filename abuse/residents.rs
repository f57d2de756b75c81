//! Residents: sockets of mitras that were open before the attack. They ping four times a second and are never to notice it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_tungstenite::tungstenite::Message;

use crate::kit::{
    distribution::Distribution,
    server::Server,
    socket::{self, Dial, Socket, kind},
    tokens::{Mint, Role},
};

const EVERY: Duration = Duration::from_millis(250);

#[derive(Default)]
struct Heard {
    pongs: Option<Distribution>,
    lost: u64,
    why: Option<String>,
}

type Shared = Arc<Mutex<Heard>>;

/// Open sockets that ping.
pub struct Residents {
    heard: Shared,
    _sockets: JoinSet<()>,
}

/// What the residents saw since they were last asked.
pub struct Report {
    /// Round trips of pings.
    pub pongs: Distribution,
    /// Sockets that were lost since the beginning.
    pub lost: u64,
    /// Why the first one was.
    pub why: Option<String>,
}

impl Residents {
    /// Opens the sockets of subjects 0 to `sockets`; each goes online.
    ///
    /// # Errors
    /// One cannot be opened.
    pub async fn open(server: &Server, mint: &Mint, sockets: u64) -> Result<Self> {
        let dial = mitra_dial(server, true);
        let heard = Shared::default();
        let mut tasks = JoinSet::new();
        for number in 0..sockets {
            let (socket, _) = socket::open(&dial, mint, number).await.context("a resident")?;
            let (heard, first) = (Arc::clone(&heard), EVERY.mul_f64(number as f64 / sockets as f64));
            tasks.spawn(async move {
                if let Err(error) = stay(socket, first, &heard).await {
                    let mut heard = lock(&heard);
                    heard.lost += 1;
                    heard.why.get_or_insert_with(|| format!("{error:#}"));
                }
            });
        }
        Ok(Self { heard, _sockets: tasks })
    }

    /// What they saw since this was last asked.
    pub fn report(&self) -> Report {
        let mut heard = lock(&self.heard);
        let pongs = heard.pongs.take().unwrap_or_else(Distribution::new);
        Report { pongs, lost: heard.lost, why: heard.why.clone() }
    }
}

/// How a mitra of this server connects.
pub fn mitra_dial(server: &Server, online: bool) -> Dial {
    Dial {
        address: server.public,
        path: "/ws/mitra".to_owned(),
        role: Some(Role::Mitra),
        first_subject: 0,
        sockets: 1,
        at_once: 1,
        until: Some("status".to_owned()),
        online,
    }
}

async fn stay(mut socket: Socket, first: Duration, heard: &Shared) -> Result<()> {
    let mut due = Instant::now() + first;
    loop {
        sleep_until(due).await;
        let began = Instant::now();
        socket.send(Message::text(r#"{"type":"ping"}"#)).await?;
        loop {
            match socket.next().await.context("the server hung up")?? {
                Message::Text(text) if kind(&text) == "pong" => break,
                Message::Close(frame) => anyhow::bail!("the server closed: {frame:?}"),
                _ => {}
            }
        }
        lock(heard).pongs.get_or_insert_with(Distribution::new).record(began.elapsed());
        due += EVERY;
    }
}

fn lock(heard: &Mutex<Heard>) -> std::sync::MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}
