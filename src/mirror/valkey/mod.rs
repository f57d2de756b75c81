//! The mirror in Valkey, shared by all nodes and readable by any other program.
//!
//! Every change is one Lua script that compares, applies, counts and publishes; `keys.rs` lists what it touches. This
//! module translates between the trait and the scripts. It holds no state of its own and decides nothing: when to
//! believe the mirror is `presence`'s business. Only the composition root names it.

mod address;
mod batches;
mod catalog;
mod connection;
mod keys;
mod listening;
mod reply;
mod tls;
mod words;

use std::{
    collections::HashSet,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use fred::{
    interfaces::{HashesInterface, KeysInterface, ListInterface, PubsubInterface, SetsInterface},
    types::{Key, Value},
};
use parking_lot::Mutex;
use tokio::{
    sync::{broadcast, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use connection::ValkeySetupError;
pub use tls::ValkeyTls;

use self::{
    catalog::Script,
    connection::Connection,
    keys::Keys,
    reply::{Reply, decimal},
};
use crate::{
    domain::{AvailableMitra, AvailablePage, Counts, Fence, LastHeard, MitraId, NodeId, NodeRecord, Snapshot, Source},
    mirror::{
        ApplyReport, BATCH, Beat, BeatReport, Caution, Claimed, Claims, EVENT_QUEUE, Entries, HistoryPoint, Mirror,
        MirrorError, MirrorEvent, MirrorSettings, NODE_LIFE, Pulse, Restraint, Suspects, Write,
    },
    protocol::ControlMessage,
};

/// At start the server is given this long to be there, so that a node does not begin in fallback for nothing.
const FIRST_CONNECT: Duration = Duration::from_secs(1);
/// How long the tasks may take to end.
const CLOSE: Duration = Duration::from_secs(2);
/// The structures that [`Mirror::known`] walks; the number of one stands in the top bits of its cursor.
const STRUCTURES: u64 = 5;
const STRUCTURE_SHIFT: u32 = 60;

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
    /// Whose record [`Mirror::report_node`] writes.
    pub node: NodeId,
}

impl fmt::Debug for ValkeySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the address, which may hold a password.
        f.debug_struct("ValkeySettings")
            .field("key_prefix", &self.key_prefix)
            .field("command_timeout", &self.command_timeout)
            .field("mirror", &self.mirror)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// See the module.
pub struct ValkeyMirror {
    connection: Connection,
    keys: Keys,
    node: NodeId,
    /// A record older than this is of a node that is gone. On a clock that is scaled down it must not outlive its mitras.
    node_life: Duration,
    /// The arguments that every script begins with.
    fixed_arguments: [Value; 5],
    events: broadcast::Sender<MirrorEvent>,
    connected: watch::Receiver<bool>,
    /// When the last pulse came, and the server's clock in it.
    clock: Mutex<Option<(Instant, u64)>>,
    stop: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl ValkeyMirror {
    /// Begins to dial and waits a second at most; a server that is away is no error, it is tried again without end.
    /// The tasks behind it run on `tracker` until [`Mirror::close`].
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
        let MirrorSettings { suspect_after, snapshot_ttl, snapshot_window } = settings.mirror;
        let fixed_arguments = [
            Value::Integer(millis(suspect_after)),
            // Zero would be refused by the server.
            Value::Integer(millis(snapshot_ttl).max(1)),
            Value::Integer(millis(snapshot_window)),
            Value::from(keys.events.as_str()),
            Value::from(keys.control.as_str()),
        ];

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
            node_life: NODE_LIFE.min(suspect_after),
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
        Reply::new(script.name, self.connection.run(script, keys, arguments).await?)
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

    async fn silent(&self, silent_for: Duration, limit: u32) -> Result<(u64, Vec<MitraId>), MirrorError> {
        let mut arguments = self.arguments(3);
        arguments.extend([Value::Integer(millis(silent_for)), Value::Integer(limit.into()), random()]);
        let mut reply = self.run(&catalog::SILENT, self.keys.fixed(0), arguments).await?;
        Ok((reply.number()?, ids(reply.list()?)?))
    }
}

#[async_trait]
impl Mirror for ValkeyMirror {
    fn source(&self) -> Source {
        Source::Valkey
    }

    fn events(&self) -> broadcast::Receiver<MirrorEvent> {
        self.events.subscribe()
    }

    async fn apply(&self, writes: &[Write]) -> Result<ApplyReport, MirrorError> {
        let mut batches = distinct(writes).into_iter();
        let mut report = self.apply_distinct(batches.next().unwrap_or_default()).await?;
        for batch in batches {
            let next = self.apply_distinct(batch).await?;
            report.outcomes.extend(next.outcomes);
            report.pulse = next.pulse;
        }
        Ok(report)
    }

    async fn beat(&self, beats: &[Beat]) -> Result<BeatReport, MirrorError> {
        let mut batches = beats.chunks(BATCH);
        let mut report = self.beat_batch(batches.next().unwrap_or_default()).await?;
        for batch in batches {
            let next = self.beat_batch(batch).await?;
            report.refused.extend(next.refused);
            report.pulse = next.pulse;
        }
        Ok(report)
    }

    async fn tick(&self) -> Result<Pulse, MirrorError> {
        let pulse = {
            let mut keys = self.keys.fixed(2);
            keys.extend([self.keys.caution.clone(), self.keys.nodes.clone()]);
            self.run(&catalog::TICK, keys, self.arguments(0)).await?.into_pulse()?
        };
        self.learn_clock(&pulse);
        Ok(pulse)
    }

    async fn counts(&self) -> Result<(Counts, Pulse), MirrorError> {
        let mut reply = self.run(&catalog::COUNTS, self.keys.fixed(0), self.arguments(0)).await?;
        let pulse = reply.pulse()?;
        let mut numbers = reply.list()?;
        let (online, listed): (u64, u64) = (numbers.number()?, numbers.number()?);
        let (reachable, available): (u64, u64) = (numbers.number()?, numbers.number()?);
        let counts = Counts {
            online,
            reachable,
            available,
            busy: reachable.saturating_sub(available),
            suspect: listed.saturating_sub(reachable),
            deactivated: numbers.number()?,
            ..Counts::default()
        };
        Ok((counts, pulse))
    }

    async fn find_available(&self, limit: u32) -> Result<(AvailablePage, Pulse), MirrorError> {
        let mut arguments = self.arguments(2);
        arguments.extend([Value::Integer(i64::from(limit).min(BATCH as i64)), random()]);
        let mut reply = self.run(&catalog::FIND, self.keys.fixed(0), arguments).await?;
        let pulse = reply.pulse()?;
        let total = reply.number()?;
        let mut words = reply.list()?;
        let mut mitras = Vec::with_capacity(words.len() / 3);
        while words.len() > 0 {
            let (id, last_ms, record) = (words.id()?, words.number()?, words.text()?);
            let facts = reply::facts(&record);
            mitras.extend(id.zip(facts).map(|(id, facts)| AvailableMitra {
                id,
                sessions: facts.sessions,
                max_sessions: facts.max_sessions,
                heartbeat_age: reply::age(pulse.now_ms, last_ms),
            }));
        }
        Ok((AvailablePage { mitras, total }, pulse))
    }

    async fn suspects(&self, after: Option<LastHeard>, limit: u32) -> Result<Suspects, MirrorError> {
        self.suspects_page(after, limit).await
    }

    async fn entries(&self, ids: &[MitraId]) -> Result<Entries, MirrorError> {
        let mut batches = ids.chunks(BATCH);
        let mut entries = self.entries_batch(batches.next().unwrap_or_default()).await?;
        for batch in batches {
            let next = self.entries_batch(batch).await?;
            entries.of_each.extend(next.of_each);
            // One that was emptied in between has none, or another.
            entries.epoch = next.epoch.filter(|epoch| entries.epoch.as_ref() == Some(epoch));
        }
        Ok(entries)
    }

    async fn is_deactivated(&self, id: MitraId) -> Result<bool, MirrorError> {
        let found = self.connection.commands().sismember(&self.keys.deactivated, id.to_string()).await;
        self.connection.judge("look at the deactivated", found)
    }

    async fn cached_snapshot(&self) -> Result<Option<Snapshot>, MirrorError> {
        let found: Result<Option<String>, _> = self.connection.commands().get(&self.keys.snapshot).await;
        let json = self.connection.judge("read the cached snapshot", found)?;
        Ok(json.and_then(|json| reply::snapshot(&json)))
    }

    async fn count_silent(&self, silent_for: Duration) -> Result<u64, MirrorError> {
        Ok(self.silent(silent_for, 0).await?.0)
    }

    async fn claim_silent(&self, silent_for: Duration, limit: u32, caution: &Caution) -> Result<Claims, MirrorError> {
        // Also without candidates: that a restraint has ended is part of the score.
        let (_, candidates) = self.silent(silent_for, limit.min(BATCH as u32)).await?;
        let mut arguments = self.arguments(6 + candidates.len());
        arguments.extend(
            [
                millis(silent_for),
                millis(caution.sweep),
                caution.share_percent.into(),
                caution.at_least.into(),
                caution.doubted_from.into(),
                millis(caution.release_after),
            ]
            .map(Value::Integer),
        );
        arguments.extend(candidates.iter().map(|id| Value::from(id.to_string())));
        let mut keys = self.keys_of(candidates.into_iter());
        keys.insert(keys::FIXED, self.keys.caution.clone());
        let mut reply = self.run(&catalog::CLAIM, keys, arguments).await?;
        reply.pulse()?;
        let mut words = reply.list()?;
        let mut claimed = Vec::with_capacity(words.len() / 3);
        while words.len() > 0 {
            let (id, online_epoch, last_ms) = (words.id()?, words.number()?, words.number()?);
            claimed.extend(id.map(|id| Claimed { id, online_epoch, last_ms }));
        }
        let left = reply.number()?;
        let restraint = match reply.text()?.as_str() {
            "brake" => Some(Restraint::Brake),
            "doubt" => Some(Restraint::Doubt),
            "lost" => Some(Restraint::Lost),
            _ => None,
        };
        let held_for = Duration::from_millis(reply.number()?);
        Ok(Claims { claimed, left, restraint: restraint.map(|restraint| (restraint, held_for)) })
    }

    async fn unclaim(&self, claimed: &[Claimed]) -> Result<(), MirrorError> {
        for batch in claimed.chunks(BATCH) {
            let mut arguments = self.arguments(batch.len() * 3);
            for claim in batch {
                arguments.extend([
                    Value::from(claim.id.to_string()),
                    Value::from(decimal(claim.online_epoch).to_string()),
                    Value::Integer(i64::try_from(claim.last_ms).unwrap_or(i64::MAX)),
                ]);
            }
            let keys = self.keys_of(batch.iter().map(|claim| claim.id));
            self.run(&catalog::UNCLAIM, keys, arguments).await?.into_pulse()?;
        }
        Ok(())
    }

    async fn known(&self, cursor: u64) -> Result<(u64, Vec<MitraId>), MirrorError> {
        let structure = cursor >> STRUCTURE_SHIFT;
        let mut arguments = self.arguments(2);
        // As text: a cursor may be too large for a signed number.
        arguments.extend([
            Value::from(structure.to_string()),
            Value::from((cursor & ((1 << STRUCTURE_SHIFT) - 1)).to_string()),
        ]);
        let mut reply = self.run(&catalog::KNOWN, self.keys.fixed(0), arguments).await?;
        let next: u64 = reply.number()?;
        let ids = ids(reply.list()?)?;
        let next = match next {
            0 if structure + 1 == STRUCTURES => 0,
            0 => (structure + 1) << STRUCTURE_SHIFT,
            within => (structure << STRUCTURE_SHIFT) | within,
        };
        Ok((next, ids))
    }

    async fn forget(&self, ids: &[(MitraId, Fence)]) -> Result<u64, MirrorError> {
        let mut removed = 0;
        for batch in ids.chunks(BATCH) {
            let mut arguments = self.arguments(batch.len() * 3);
            for (id, seen) in batch {
                arguments.extend(
                    [id.to_string(), decimal(seen.generation).to_string(), decimal(seen.revision).to_string()]
                        .map(Value::from),
                );
            }
            let keys = self.keys_of(batch.iter().map(|(id, _)| *id));
            let mut reply = self.run(&catalog::FORGET, keys, arguments).await?;
            reply.pulse()?;
            removed += reply.number::<u64>()?;
        }
        Ok(removed)
    }

    async fn open_epoch(&self, seeded: u64) -> Result<Arc<str>, MirrorError> {
        let mut arguments = self.arguments(2);
        arguments.push(Value::from(uuid::Uuid::new_v4().simple().to_string()));
        arguments.push(Value::Integer(i64::try_from(seeded).unwrap_or(i64::MAX)));
        let pulse = self.run(&catalog::OPEN, self.keys.fixed(0), arguments).await?.into_pulse()?;
        pulse.epoch.ok_or_else(|| MirrorError("the mirror was emptied while it was seeded".to_owned()))
    }

    async fn tell(&self, message: &ControlMessage) -> Result<(), MirrorError> {
        let json = control_json(message)?;
        let told: Result<(), _> = self.connection.commands().publish(self.keys.control.as_str(), json).await;
        self.connection.judge("tell the other nodes", told)
    }

    async fn report_node(&self, record: &NodeRecord) -> Result<Vec<NodeRecord>, MirrorError> {
        let json = serde_json::to_string(record).map_err(|error| MirrorError(error.to_string()))?;
        let mut keys = self.keys.fixed(2);
        keys.extend([self.keys.nodes.clone(), self.keys.caution.clone()]);
        let mut arguments = self.arguments(3);
        arguments.extend([
            Value::from(record.node_id.as_str()),
            Value::from(json),
            Value::Integer(millis(self.node_life)),
        ]);
        let mut reply = self.run(&catalog::REPORT, keys, arguments).await?;
        let mut nodes = Vec::with_capacity(reply.len() / 2);
        while reply.len() > 0 {
            let (seen_ms, json) = (reply.number()?, reply.text()?);
            // A record of another version of this server that cannot be read is left out.
            if let Ok(record) = serde_json::from_str::<NodeRecord>(&json) {
                nodes.push(NodeRecord { seen_ms, ..record });
            }
        }
        nodes.sort_by(|a, b| a.node_id.cmp(&b.node_id));
        Ok(nodes)
    }

    async fn history(&self) -> Result<Vec<HistoryPoint>, MirrorError> {
        let found: Result<Vec<String>, _> = self.connection.commands().lrange(&self.keys.history, 0, -1).await;
        let points = self.connection.judge("read the history", found)?;
        Ok(points.iter().filter_map(|point| serde_json::from_str(point).ok()).collect())
    }

    async fn resubscribe(&self) {
        connection::reconnect(&*self.connection.subscriber.borrow());
    }

    async fn close(&self) {
        let left: Result<(), _> = self.connection.commands().hdel(&self.keys.nodes, self.node.as_str()).await;
        if let Err(error) = self.connection.judge("take the node's record away", left) {
            tracing::debug!(%error, "the node's record will expire by itself");
        }
        self.stop.cancel();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        let _ = tokio::time::timeout(CLOSE, async {
            for task in tasks {
                let _ = task.await;
            }
        })
        .await;
    }
}

impl Drop for ValkeyMirror {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Splits into batches of at most [`BATCH`] in which no id occurs twice: a script reads all before it writes.
fn distinct(writes: &[Write]) -> Vec<&[Write]> {
    let mut batches = Vec::new();
    let (mut begin, mut seen) = (0, HashSet::with_capacity(writes.len().min(BATCH)));
    for (end, write) in writes.iter().enumerate() {
        if end - begin == BATCH || !seen.insert(write.row.id) {
            batches.push(&writes[begin..end]);
            begin = end;
            seen.clear();
            seen.insert(write.row.id);
        }
    }
    batches.push(&writes[begin..]);
    batches
}

fn control_json(message: &ControlMessage) -> Result<String, MirrorError> {
    serde_json::to_string(message).map_err(|error| MirrorError(error.to_string()))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn random() -> Value {
    Value::Integer(i64::from(rand::random::<u32>()))
}

fn ids(mut reply: Reply) -> Result<Vec<MitraId>, MirrorError> {
    let mut ids = Vec::with_capacity(reply.len());
    while reply.len() > 0 {
        ids.extend(reply.id::<MitraId>()?);
    }
    Ok(ids)
}

fn parse_fence(text: &str) -> Result<Fence, MirrorError> {
    text.split_once(':')
        .and_then(|(generation, revision)| {
            Some(Fence { generation: generation.parse().ok()?, revision: revision.parse().ok()? })
        })
        .ok_or_else(|| MirrorError(format!("script `apply` answered `{text}`, which is no outcome")))
}

/// Whether a prefix puts all keys into one slot: it holds `{word}`.
fn has_hash_tag(prefix: &str) -> bool {
    prefix.split_once('{').and_then(|(_, rest)| rest.split_once('}')).is_some_and(|(tag, _)| !tag.is_empty())
}
