//! The availability as server-sent events, for those who can read a stream and hold no socket.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
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
use tokio::time::sleep;

use super::{
    Api, ApiError,
    caller::{Caller, Watchers},
};
use crate::{
    hub::{AvailabilityNews, Connection, Hub, RegisterError},
    protocol::Problem,
};

pub async fn get(State(api): State<Api>, caller: Caller<Watchers>) -> Result<Response, ApiError> {
    // A stream counts as a socket, and is closed by the same orders.
    let registration = api.presence.hub().register(caller.holder()).map_err(refused)?;
    api.presence.hub().settle(&registration);
    let newest = api.presence.hub().watch_availability();
    let life = caller.expires_at().signed_duration_since(Utc::now()).to_std().unwrap_or(Duration::ZERO);
    let lifecycle = api.lifecycle.clone();
    let presence = Arc::clone(&api.presence);
    let ends = async move {
        tokio::select! {
            () = sleep(life) => {}
            () = lifecycle.stopped() => {}
            () = leaves(presence.hub()) => {}
            () = ordered(&registration) => {}
        }
    };
    let events = stream::unfold(newest, |mut newest| async move {
        loop {
            newest.changed().await.ok()?;
            let news = newest.borrow_and_update().clone();
            if let Some(news) = news {
                return Some((Ok::<_, Infallible>(event(&news)), newest));
            }
        }
    })
    .take_until(ends);
    let keep_alive = KeepAlive::new().interval(api.settings.sse_comment_interval);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    // nginx would hold events back otherwise.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
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

/// Completes when the stream is ordered to close.
async fn ordered(connection: &Connection) {
    while connection.ordered().is_none() {
        connection.woken().await;
    }
}

fn event(news: &AvailabilityNews) -> Event {
    let snapshot = news.snapshot();
    Event::default().id(format!("{}-{}", snapshot.epoch, snapshot.version)).data(news.body_text())
}
