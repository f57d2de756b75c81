//! The availability as server-sent events, for those who can read a stream and hold no socket.

use std::{convert::Infallible, time::Duration};

use axum::{
    Extension,
    extract::State,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use chrono::Utc;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, header};
use rand::RngExt;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{
    Api, ApiError,
    caller::{Caller, Watchers},
};
use crate::{
    hub::{AvailabilityNews, Connection, Hub, RegisterError, Registration},
    lifecycle::Hangup,
    protocol::Problem,
};

/// How long a stream that ends may take to be read to its end. A reader that stalled then loses the
/// connection: a token's end and a disconnect hold for it too.
const LAST_READ: Duration = Duration::from_secs(2);

pub async fn get(
    State(api): State<Api>,
    caller: Caller<Watchers>,
    Extension(hangup): Extension<Hangup>,
) -> Result<Response, ApiError> {
    // A stream counts as a socket, and is closed by the same requests.
    let registration = api.presence.hub().register(caller.holder()).map_err(refused)?;
    api.presence.hub().settle(&registration);
    let newest = api.presence.hub().watch_availability();
    let life = caller.expires_at().signed_duration_since(Utc::now()).to_std().unwrap_or(Duration::ZERO);
    let (alive, gone) = oneshot::channel::<Infallible>();
    let (ended, over) = oneshot::channel::<Infallible>();
    api.lifecycle.spawn(attend(api.clone(), registration, life, Ends { stream_gone: gone, ended, hangup }));
    let events = stream::unfold((newest, alive), |(mut newest, alive)| async move {
        loop {
            newest.changed().await.ok()?;
            let news = newest.borrow_and_update().clone();
            if let Some(news) = news {
                return Some((Ok::<_, Infallible>(event(&news)), (newest, alive)));
            }
        }
    })
    .take_until(over);
    let keep_alive = KeepAlive::new().interval(api.settings.sse_comment_interval);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    // nginx would hold events back otherwise.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    // The connection counts as a socket and not among the idle ones: it ends with its stream.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// How a stream and its attendant tell each other that they end.
struct Ends {
    /// Completes when the stream was dropped.
    stream_gone: oneshot::Receiver<Infallible>,
    /// Dropping it ends the stream at its next poll.
    ended: oneshot::Sender<Infallible>,
    hangup: Hangup,
}

/// Holds the stream's place in the hub and ends it in time. A task of its own, because a stream whose
/// reader stalls is not polled.
async fn attend(api: Api, registration: Registration, life: Duration, ends: Ends) {
    let Ends { mut stream_gone, ended, hangup } = ends;
    let role = registration.holder().role;
    api.metrics.stream_opened(role);
    let is_gone = tokio::select! {
        _ = &mut stream_gone => true,
        () = sleep(life) => false,
        () = api.lifecycle.stopped() => false,
        () = leaves(api.presence.hub()) => false,
        () = close_requested(&registration) => false,
    };
    drop(registration);
    api.metrics.stream_closed(role);
    drop(ended);
    if !is_gone && timeout(LAST_READ, stream_gone).await.is_err() {
        hangup.hang_up();
    }
}

fn refused(error: RegisterError) -> ApiError {
    Problem::new(error.code(), error.to_string()).into()
}

/// Completes when the node is leaving, at a moment of this stream's own.
async fn leaves(hub: &Hub) {
    hub.drained().await;
    let spread = hub.draining_ms().unwrap_or(1);
    let wait = rand::rng().random_range(0..spread);
    sleep(Duration::from_millis(wait)).await;
}

/// Completes when the stream is to close.
async fn close_requested(connection: &Connection) {
    while connection.ordered().is_none() {
        connection.woken().await;
    }
}

fn event(news: &AvailabilityNews) -> Event {
    let snapshot = news.snapshot();
    Event::default().id(format!("{}-{}", snapshot.epoch, snapshot.version)).data(news.body_text())
}
