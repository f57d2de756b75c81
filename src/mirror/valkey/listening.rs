//! The tasks behind the mirror: they keep both connections dialled and turn what arrives into events.

use std::time::{Duration, Instant};

use fred::{
    clients::SubscriberClient,
    error::Error,
    interfaces::{ClientLike, EventInterface, PubsubInterface},
    types::{Message, config::Server},
};
use tokio::{
    sync::{broadcast, watch},
    time::{Interval, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{
    connection::{self, Renewable},
    reply,
};
use crate::{mirror::MirrorEvent, protocol::ControlMessage};

/// How long a peer may take to say goodbye.
const FAREWELL: Duration = Duration::from_millis(500);
/// Pause before a connection's task that ended for good is started anew.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// A client that was without a connection for this long is replaced by a new one: it may look for servers in places where
/// there are none any more (Sentinels that others named and that are gone), or be stuck.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(10);
/// How often the listening connection is asked whether it is there.
const LISTENER_CHECK: Duration = Duration::from_secs(1);
/// Every so many checks it subscribes again, which changes nothing where all is well.
const CHECKS_PER_SUBSCRIPTION: u32 = 10;

/// Keeps a client dialled and tells of every loss and every return, until `stop`. Replaces one that does not come back.
///
/// `renewals` yields a future that resolves when the connection should be replaced; `on_error` hears why one was lost or could
/// not be made.
pub(super) async fn keep_connected<C, R, F>(
    place: watch::Sender<C>,
    stop: CancellationToken,
    connected: watch::Sender<bool>,
    mut renewals: R,
    mut on_error: impl FnMut(&Error, Option<&Server>),
    mut on_change: impl FnMut(bool),
) where
    C: Renewable,
    R: FnMut() -> F,
    F: Future<Output = ()>,
{
    let mut client = place.borrow().clone();
    let mut errors = client.error_rx();
    let mut connects = client.reconnect_rx();
    let mut driver = client.connect();
    let mut renewal = Box::pin(renewals());
    let mut last_well = Instant::now();
    // Goes on whatever else happens: attempts to connect that fail one after the other must not put it off.
    let mut check = tokio::time::interval(LISTENER_CHECK);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // Losses before returns: when both wait, the return is the newer.
            biased;
            () = stop.cancelled() => break,
            error @ (Ok(_) | Err(broadcast::error::RecvError::Lagged(_))) = errors.recv() => {
                if let Ok((error, server)) = error {
                    on_error(&error, server.as_ref());
                }
                if is_lost(&connected, &mut last_well, &mut check) {
                    on_change(false);
                }
            }
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) = connects.recv() => {
                // Told when the socket stands; the client takes commands a moment later.
                let ready = tokio::time::timeout(LISTENER_CHECK, client.wait_for_connect()).await;
                if matches!(ready, Ok(Ok(()))) {
                    connected.send_replace(true);
                    on_change(true);
                }
            }
            _ = check.tick(), if !*connected.borrow() => {
                if client.is_connected() {
                    // A cluster that goes on without the server it lost makes no connection that we would be told of.
                    connected.send_replace(true);
                    on_change(true);
                } else if last_well.elapsed() > GIVEN_UP_AFTER {
                    last_well = Instant::now();
                    driver.abort();
                    client = client.anew();
                    errors = client.error_rx();
                    connects = client.reconnect_rx();
                    driver = client.connect();
                    place.send_replace(client.clone());
                }
            }
            () = &mut renewal => {
                renewal.set(renewals());
                connection::reconnect(&client);
            }
            _ = &mut driver => {
                // Ends only on errors that the client takes for final; nothing is final here.
                if is_lost(&connected, &mut last_well, &mut check) {
                    on_change(false);
                }
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(RESTART_PAUSE) => driver = client.connect(),
                }
            }
        }
    }
    let _ = tokio::time::timeout(FAREWELL, client.quit()).await;
    driver.abort();
}

/// Notes a loss; whether the connection stood until now.
fn is_lost(connected: &watch::Sender<bool>, last_well: &mut Instant, check: &mut Interval) -> bool {
    let stood = connected.send_replace(false);
    if stood {
        *last_well = Instant::now();
        check.reset();
    }
    stood
}

/// Subscribes after every connect, and makes sure that the connection which only listens still hears.
pub(super) async fn keep_subscribed(
    place: watch::Receiver<SubscriberClient>,
    channels: [String; 2],
    events: broadcast::Sender<MirrorEvent>,
    mut connected: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let mut refusal = Refusal::default();
    let listen = async {
        loop {
            if connected.wait_for(|connected| *connected).await.is_err() {
                return;
            }
            connected.mark_unchanged();
            let subscriber = place.borrow().clone();
            if let Err(error) = subscribed(&subscriber, &channels).await {
                refusal.refused(&error);
                connection::reconnect(&subscriber);
                tokio::time::sleep(LISTENER_CHECK).await;
                continue;
            }
            // Whatever was published before this moment was not heard.
            let _ = events.send(MirrorEvent::Missed);
            for check in 1.. {
                tokio::select! {
                    _ = connected.changed() => break,
                    () = tokio::time::sleep(LISTENER_CHECK) => {}
                }
                let well = if check % CHECKS_PER_SUBSCRIPTION == 0 {
                    subscribed(&subscriber, &channels).await.is_ok()
                } else {
                    answers(&subscriber).await
                };
                if !well && *connected.borrow() {
                    connection::reconnect(&subscriber);
                    break;
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = listen => {}
    }
}

async fn answers(subscriber: &SubscriberClient) -> bool {
    subscriber.ping::<String>(None).await.is_ok()
}

/// A subscription is not answered in order, a ping is: once it is answered, the subscription stands.
async fn subscribed(subscriber: &SubscriberClient, channels: &[String; 2]) -> Result<(), Error> {
    subscriber.subscribe(channels.to_vec()).await?;
    subscriber.ping::<String>(None).await.map(drop)
}

/// A server that refuses the subscription, told once. A lost connection is told elsewhere.
#[derive(Default)]
struct Refusal(bool);

impl Refusal {
    fn refused(&mut self, error: &Error) {
        if error.details().starts_with("NOPERM") && !std::mem::replace(&mut self.0, true) {
            tracing::warn!(
                why = error.details(),
                "Valkey does not let this node subscribe, so it hears nothing of other nodes; `hadir check` names the right"
            );
        }
    }
}

/// Passes messages on as events; what cannot be read is skipped.
pub(super) async fn forward(
    mut place: watch::Receiver<SubscriberClient>,
    channels: [String; 2],
    events: broadcast::Sender<MirrorEvent>,
    stop: CancellationToken,
) {
    let [snapshots, control] = channels;
    let mut messages = place.borrow_and_update().message_rx();
    loop {
        let message = tokio::select! {
            () = stop.cancelled() => return,
            // It subscribes later than this, and says then that something may have been missed.
            Ok(()) = place.changed() => {
                messages = place.borrow_and_update().message_rx();
                continue;
            }
            message = messages.recv() => message,
        };
        match message {
            Ok(Message { channel, value, .. }) => {
                let text = value.as_str().unwrap_or_default();
                let event = if *channel == *snapshots {
                    reply::snapshot(&text).map(MirrorEvent::Snapshot)
                } else if *channel == *control {
                    serde_json::from_str::<ControlMessage>(&text).ok().map(MirrorEvent::Control)
                } else {
                    None
                };
                match event {
                    // Nobody listening is nobody's loss.
                    Some(event) => drop(events.send(event)),
                    None => tracing::debug!(channel = &*channel, "skipped a message that is not ours"),
                }
            }
            Err(broadcast::error::RecvError::Lagged(_)) => drop(events.send(MirrorEvent::Missed)),
            // The client was closed; after a restart of its task it uses the same channel.
            Err(broadcast::error::RecvError::Closed) => {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(RESTART_PAUSE) => messages = place.borrow().message_rx(),
                }
            }
        }
    }
}
