//! The mirror in Valkey, shared by all nodes and readable by any other program.
//!
//! Every change is one Lua script that compares, applies, counts and publishes; `keys.rs` lists what it touches. This
//! module translates between the trait and the scripts. It holds no state of its own and decides nothing: when to
//! believe the mirror is `presence`'s business. Only the composition root names it.

mod address;
mod batches;
mod calls;
mod catalog;
mod claims;
mod connection;
mod keys;
mod listening;
mod preflight;
mod reply;
mod tls;
mod words;

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use fred::types::{Key, Value};
use parking_lot::Mutex;
use tokio::{
    sync::{broadcast, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

pub use connection::ValkeySetupError;
pub use tls::ValkeyTls;

use self::{catalog::Script, connection::Connection, keys::Keys, reply::Reply};
use crate::{
    domain::{MitraId, NodeId},
    mirror::{EVENT_QUEUE, MirrorError, MirrorEvent, MirrorSettings, NODE_LIFE},
    protocol::ControlMessage,
};

/// At start the server is given this long to be there, so that a node does not begin in fallback for nothing.
const FIRST_CONNECT: Duration = Duration::from_secs(1);
/// How long the tasks may take to end.
const CLOSE: Duration = Duration::from_secs(2);

/// Where the mirror is and how to speak to it.
#[derive(Clone)]
pub struct ValkeySettings {
    /// Address, with credentials and database.
    pub url: String,
    /// Files of TLS, for an address that asks for it.
    pub tls: ValkeyTls,
    /// Before every key and channel; `None`: empty, or `{hadir}:` in a cluster.
    pub key_prefix: Option<String>,
    /// How long one command may take.
    pub command_timeout: Duration,
    /// How long a connection may take, TLS and login included.
    pub connect_timeout: Duration,
    /// Times of freshness and publishing.
    pub mirror: MirrorSettings,
    /// The identity of the store that is mirrored. `None`: it is not known, and the mirror of any store is taken for its own.
    pub store: Option<Uuid>,
    /// Whose record [`crate::mirror::Mirror::report_node`] writes.
    pub node: NodeId,
}

impl fmt::Debug for ValkeySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the address, which may hold a password.
        f.debug_struct("ValkeySettings")
            .field("key_prefix", &self.key_prefix)
            .field("command_timeout", &self.command_timeout)
            .field("mirror", &self.mirror)
            .field("store", &self.store)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// See the module.
pub struct ValkeyMirror {
    connection: Connection,
    keys: Keys,
    node: NodeId,
    /// The identity of the store, as the scripts take it.
    store: String,
    /// What it last answered was that it belongs to another store.
    is_foreign: AtomicBool,
    /// A record older than this is of a node that is gone. On a clock that is scaled down it must not outlive its mitras.
    node_life: Duration,
    /// The arguments that every script begins with.
    fixed_arguments: [Value; 6],
    events: broadcast::Sender<MirrorEvent>,
    connected: watch::Receiver<bool>,
    /// When the last pulse came, and the server's clock in it.
    clock: Mutex<Option<(Instant, u64)>>,
    stop: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// The arguments that every script is given first.
fn fixed_arguments(settings: &MirrorSettings, keys: &Keys, store: &str) -> [Value; 6] {
    [
        Value::Integer(millis(settings.suspect_after)),
        // Zero would be refused by the server.
        Value::Integer(millis(settings.snapshot_ttl).max(1)),
        Value::Integer(millis(settings.snapshot_window)),
        Value::from(keys.events.as_str()),
        Value::from(keys.control.as_str()),
        Value::from(store),
    ]
}

impl ValkeyMirror {
    /// Begins to dial and waits a second at most; a server that is away is no error, it is tried again without end.
    /// The tasks behind it run on `tracker` until [`crate::mirror::Mirror::close`].
    ///
    /// # Errors
    /// The address or the prefix cannot be used.
    pub async fn connect(settings: ValkeySettings, tracker: &TaskTracker) -> Result<Self, ValkeySetupError> {
        let connection =
            Connection::new(&settings.url, &settings.tls, settings.command_timeout, settings.connect_timeout)?;
        let prefix = match settings.key_prefix {
            Some(prefix) => prefix,
            None if connection.clustered => "{hadir}:".to_owned(),
            None => String::new(),
        };
        if connection.clustered && !has_hash_tag(&prefix) {
            return Err(ValkeySetupError::PrefixWithoutTag);
        }
        let keys = Keys::new(&prefix, connection.database);
        let store = settings.store.map(|store| store.to_string()).unwrap_or_default();
        let fixed_arguments = fixed_arguments(&settings.mirror, &keys, &store);
        let (events, _) = broadcast::channel(EVENT_QUEUE);
        let stop = CancellationToken::new();
        let (commands_state, mut connected) = watch::channel(false);
        let (subscriber_state, subscriber_connected) = watch::channel(false);
        let channels = [keys.events.clone(), keys.control.clone()];
        let subscriber = connection.subscriber.clone();
        let told = events.clone();
        let tasks = vec![
            tracker.spawn(listening::keep_connected(
                connection.commands.clone(),
                stop.clone(),
                commands_state,
                connection.renewals(),
                connection.troubles(),
                move |connected| {
                    let event = if connected { MirrorEvent::Connected } else { MirrorEvent::Disconnected };
                    // Nobody listening is nobody's loss.
                    drop(told.send(event));
                },
            )),
            tracker.spawn(listening::keep_connected(
                subscriber.clone(),
                stop.clone(),
                subscriber_state,
                std::future::pending,
                |_, _| {},
                |_| {},
            )),
            tracker.spawn(listening::keep_subscribed(
                subscriber.subscribe(),
                channels.clone(),
                events.clone(),
                subscriber_connected,
                stop.clone(),
            )),
            tracker.spawn(listening::forward(subscriber.subscribe(), channels, events.clone(), stop.clone())),
        ];
        let _ = tokio::time::timeout(FIRST_CONNECT, connected.wait_for(|connected| *connected)).await;
        Ok(Self {
            connection,
            keys,
            node: settings.node,
            store,
            is_foreign: AtomicBool::new(false),
            node_life: NODE_LIFE.min(settings.mirror.suspect_after),
            fixed_arguments,
            events,
            connected,
            clock: Mutex::default(),
            stop,
            tasks: Mutex::new(tasks),
        })
    }

    /// Whether the command connection stands at present.
    pub fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    async fn run(&self, script: &Script, keys: Vec<Key>, arguments: Vec<Value>) -> Result<Reply, MirrorError> {
        let answer = self.connection.run(script, keys, arguments).await;
        let is_foreign = answer.as_ref().is_err_and(MirrorError::is_foreign);
        // While it cannot be asked it belongs to whom it did.
        if answer.is_ok() || is_foreign {
            self.is_foreign.store(is_foreign, Relaxed);
        }
        Reply::new(script.name, answer?)
    }

    /// The fixed arguments, with room for `more`.
    fn arguments(&self, more: usize) -> Vec<Value> {
        let mut arguments = Vec::with_capacity(self.fixed_arguments.len() + more);
        arguments.extend_from_slice(&self.fixed_arguments);
        arguments
    }

    /// The fixed keys, followed by heartbeat and capacity of each id.
    fn keys_of(&self, ids: impl ExactSizeIterator<Item = MitraId>) -> Vec<Key> {
        let mut keys = self.keys.fixed(ids.len() * 2);
        for id in ids {
            let id = id.to_string();
            keys.extend([self.keys.heartbeat(&id), self.keys.capacity(&id)]);
        }
        keys
    }
}

impl Drop for ValkeyMirror {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn random() -> Value {
    Value::Integer(i64::from(rand::random::<u32>()))
}

/// Whether a prefix puts all keys into one slot: it holds `{word}`.
fn has_hash_tag(prefix: &str) -> bool {
    prefix.split_once('{').and_then(|(_, rest)| rest.split_once('}')).is_some_and(|(tag, _)| !tag.is_empty())
}

fn control_json(message: &ControlMessage) -> Result<String, MirrorError> {
    serde_json::to_string(message).map_err(|error| MirrorError::new(error.to_string()))
}
