//! A watcher's session: the newest snapshot at once, then each change. What a slow reader missed is never sent: one frame
//! says everything.

use std::sync::Arc;

use tokio::sync::watch;

use super::{refresh::refreshed, session::Session, socket::End};
use crate::{
    hub::{AvailabilityNews, DashboardNews},
    protocol::{Encoded, ErrorCode, history},
};

/// Part of the promised silence after which the newest frame is sent again: a watcher that counts the promised time exactly must
/// not be let down by the network's delay.
const SILENCE: f32 = 0.8;

/// Something that watchers are sent.
trait News: Send + Sync + 'static {
    fn frame(&self) -> Encoded;
}

impl News for AvailabilityNews {
    fn frame(&self) -> Encoded {
        self.frame()
    }
}

impl News for DashboardNews {
    fn frame(&self) -> Encoded {
        self.frame()
    }
}

/// Runs a customer's session; returns why it ended.
pub(super) async fn run_availability(session: &mut Session) -> End {
    let news = session.gateway.hub.watch_availability();
    ended(watch(session, news, false).await)
}

/// Runs a dashboard's session; returns why it ended.
pub(super) async fn run_dashboard(session: &mut Session) -> End {
    let news = session.gateway.hub.watch_dashboard();
    session.gateway.presence.want_dashboard();
    ended(watch(session, news, true).await)
}

fn ended(watched: Result<std::convert::Infallible, End>) -> End {
    match watched {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

async fn watch<N: News>(
    session: &mut Session,
    mut news: watch::Receiver<Option<Arc<N>>>,
    mut with_history: bool,
) -> Result<std::convert::Infallible, End> {
    session.silence = Some(session.gateway.settings.max_silence.mul_f32(SILENCE));
    loop {
        session.orders().await?;
        if session.is_due() {
            // The same snapshot, newly confirmed: a browser sees no pings.
            let again = session.falls_silent().then(|| news.borrow().as_ref().map(|newest| newest.frame())).flatten();
            session.on_moment(again).await?;
        }
        session.set_alarm();
        tokio::select! {
            biased;
            () = session.registration.woken() => session.look(),
            Ok(()) = news.changed() => {
                session.look();
                let newest = news.borrow_and_update().clone();
                if let Some(newest) = newest {
                    session.send(newest.frame()).await?;
                    if std::mem::take(&mut with_history) {
                        let points = Box::pin(session.gateway.presence.history()).await;
                        session.send(history(&points)).await?;
                    }
                }
            }
            refreshed = refreshed(&mut session.refreshing) => {
                session.look();
                Box::pin(session.end_refresh(refreshed)).await?;
            }
            message = session.socket.next() => {
                let message = message?;
                session.heard();
                if let Some(command) = session.take(message).await? {
                    let text = "a watcher only watches: send ping or refresh";
                    session.send_error(command.id.as_deref(), ErrorCode::Forbidden, text).await?;
                }
            }
        }
    }
}
