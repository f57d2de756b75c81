//! The bell: NOTIFY of the triggers, heard on a connection of its own that comes back by itself.

use std::{sync::Arc, time::Duration};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use sqlx::{
    AssertSqlSafe, PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::servers::Servers;
use crate::{domain::MitraId, store::Bell};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A silence of so many deadlines is asked about: a server that vanished sends no end of its connection.
const SILENT_DEADLINES: u32 = 2;

pub(super) struct Listening {
    pub(super) servers: Arc<Servers>,
    /// What the connection is set to.
    pub(super) set_up: Arc<str>,
    pub(super) channel: String,
    /// Longest wait for a connection and for an answer.
    pub(super) deadline: Duration,
}

struct Ear {
    listening: Listening,
    listener: Option<PgListener>,
    pause: Duration,
}

pub(super) fn listen(listening: Listening) -> BoxStream<'static, Bell> {
    let ear = Ear { listening, listener: None, pause: FIRST_PAUSE };
    stream::unfold(ear, |mut ear| async move {
        let bell = ear.next().await;
        Some((bell, ear))
    })
    .boxed()
}

impl Ear {
    async fn next(&mut self) -> Bell {
        loop {
            let Some(listener) = &mut self.listener else {
                match self.listening.connect().await {
                    Ok(listener) => {
                        self.listener = Some(listener);
                        self.pause = FIRST_PAUSE;
                        return Bell::Missed;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the bell cannot be heard yet");
                        if self.listening.servers.are_several() {
                            self.listening.servers.search().await;
                        }
                        sleep(self.pause).await;
                        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                        continue;
                    }
                }
            };
            // Giving up the wait loses nothing: the driver keeps what it has read.
            match timeout(self.listening.deadline * SILENT_DEADLINES, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => match parse(notification.payload()) {
                    Some(bell) => return bell,
                    None => tracing::debug!(payload = notification.payload(), "a bell that is not ours"),
                },
                // The connection was lost: what was rung meanwhile is gone.
                Ok(Ok(None) | Err(_)) => self.listener = None,
                Err(_) => {
                    let question = sqlx::query("SELECT 1").execute(listener);
                    if !matches!(timeout(self.listening.deadline, question).await, Ok(Ok(_))) {
                        self.listener = None;
                    }
                }
            }
        }
    }
}

impl Listening {
    async fn connect(&self) -> Result<PgListener, sqlx::Error> {
        let connecting = async {
            let mut listener = PgListener::connect_with(&self.pool()).await?;
            // A lost connection is told as such, not replaced behind our back.
            listener.eager_reconnect(false);
            listener.listen(&self.channel).await?;
            Ok(listener)
        };
        timeout(self.deadline, connecting).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Of one connection, apart from the store's: this one is never handed back.
    fn pool(&self) -> PgPool {
        let set_up = Arc::clone(&self.set_up);
        PgPoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(self.deadline)
            .after_connect(move |connection, _| {
                let sql = AssertSqlSafe(set_up.to_string());
                Box::pin(async move { sqlx::raw_sql(sql).execute(connection).await.map(|_| ()) })
            })
            .connect_lazy_with(self.servers.current("hadir bell"))
    }
}

fn parse(payload: &str) -> Option<Bell> {
    if payload == "*" {
        return Some(Bell::Missed);
    }
    match payload.split_once(':')? {
        ("many", revision) => Some(Bell::ManyMitras { from: revision.parse().ok()? }),
        ("revoked", "*") => Some(Bell::ManyRevoked),
        ("revoked", session) => Some(Bell::Revoked { session: Uuid::parse_str(session).ok()? }),
        (id, revision) => {
            Some(Bell::Mitra { id: MitraId(Uuid::parse_str(id).ok()?), revision: revision.parse().ok()? })
        }
    }
}
