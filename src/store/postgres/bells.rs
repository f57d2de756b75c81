//! The bell: NOTIFY of the triggers, heard on a connection of its own that comes back by itself.

use std::time::Duration;

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use sqlx::{PgPool, postgres::PgListener};
use tokio::time::sleep;
use uuid::Uuid;

use crate::{domain::MitraId, store::Bell};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

struct Listening {
    pool: PgPool,
    channel: String,
    listener: Option<PgListener>,
    pause: Duration,
}

pub(super) fn listen(pool: PgPool, channel: String) -> BoxStream<'static, Bell> {
    let listening = Listening { pool, channel, listener: None, pause: FIRST_PAUSE };
    stream::unfold(listening, |mut listening| async move {
        let bell = listening.next().await;
        Some((bell, listening))
    })
    .boxed()
}

impl Listening {
    async fn next(&mut self) -> Bell {
        loop {
            let Some(listener) = &mut self.listener else {
                match self.connect().await {
                    Ok(listener) => {
                        self.listener = Some(listener);
                        self.pause = FIRST_PAUSE;
                        return Bell::Missed;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the bell cannot be heard yet");
                        sleep(self.pause).await;
                        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                        continue;
                    }
                }
            };
            match listener.try_recv().await {
                Ok(Some(notification)) => match parse(notification.payload()) {
                    Some(bell) => return bell,
                    None => tracing::debug!(payload = notification.payload(), "a bell that is not ours"),
                },
                // The connection was lost: what was rung meanwhile is gone.
                Ok(None) | Err(_) => self.listener = None,
            }
        }
    }

    async fn connect(&self) -> Result<PgListener, sqlx::Error> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen(&self.channel).await?;
        Ok(listener)
    }
}

fn parse(payload: &str) -> Option<Bell> {
    if payload == "*" {
        return Some(Bell::Missed);
    }
    match payload.split_once(':')? {
        ("revoked", session) => Some(Bell::Revoked { session: Uuid::parse_str(session).ok()? }),
        (id, revision) => {
            Some(Bell::Mitra { id: MitraId(Uuid::parse_str(id).ok()?), revision: revision.parse().ok()? })
        }
    }
}
