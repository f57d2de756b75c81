//! Liveness and the snapshot behind one trait: a mirror of the store that can be thrown away and rebuilt.
//!
//! `valkey/` is the only place with a Valkey client; `memory/` serves a single node. Both pass the suite in
//! `tests/it/contract/mirror.rs`. A mirror decides nothing: it applies rows by their fence (older never wins), extends
//! the life of those it lists, counts, and tells what it knows. `presence` decides when to believe it.
//!
//! All times are the mirror's own milliseconds since 1970; a node learns its offset from every [`Pulse`]. Every call has
//! a deadline and fails with [`MirrorError`], never with an empty answer.

mod caution;
pub mod memory;
pub mod valkey;

use std::{ops::Deref, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

pub use caution::{Caution, Claims, Restraint};

use crate::domain::{
    AvailablePage, Counts, Fence, LastHeard, MitraFacts, MitraId, MitraRow, NodeRecord, Snapshot, Source, StatusReason,
};
use crate::protocol::ControlMessage;

/// The most writes, beats or ids one call takes.
pub const BATCH: usize = 1_000;
/// How many events may wait for a receiver before it is told that it lagged.
pub const EVENT_QUEUE: usize = 4_096;
/// A node whose record is older than this is taken for dead.
pub const NODE_LIFE: Duration = Duration::from_secs(10);

/// The mirror did not answer in time, or not with what was asked. Never evidence that something is absent.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the mirror is unavailable: {why}")]
pub struct MirrorError {
    why: String,
    timed_out: bool,
    foreign: bool,
}

impl MirrorError {
    /// It answered with an error, or cannot be asked.
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), timed_out: false, foreign: false }
    }

    /// It did not answer before the deadline.
    pub fn timeout(why: impl Into<String>) -> Self {
        Self { why: why.into(), timed_out: true, foreign: false }
    }

    /// It is the mirror of another store, of this identity.
    pub fn foreign(owner: &str) -> Self {
        let why = format!(
            "this Valkey holds the mirror of another store ({owner}): set VALKEY_KEY_PREFIX to a word that no other \
             deployment uses, or let VALKEY_URL name another database. If that store is gone for good, delete the \
             key hadir:store"
        );
        Self { why, timed_out: false, foreign: true }
    }

    /// The reason in words.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Whether the deadline passed.
    pub fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// Whether it belongs to another store.
    pub fn is_foreign(&self) -> bool {
        self.foreign
    }
}

/// What a mirror needs to know about time and capacity; from the configuration.
#[derive(Clone, Debug)]
pub struct MirrorSettings {
    /// A heartbeat at most this old is fresh.
    pub suspect_after: Duration,
    /// Life of `availability:snapshot`; rewritten when a third of it has passed.
    pub snapshot_ttl: Duration,
    /// At most one count frame per window; a flip of `any` goes at once.
    pub snapshot_window: Duration,
}

/// One row to apply.
#[derive(Clone, Debug)]
pub struct Write {
    pub row: MitraRow,
    /// Age of the newest heartbeat the writer vouches for; moves the score only forward. `None`: leaves it, and an id
    /// that was not listed before is listed at the edge of suspicion (not fresh).
    pub heartbeat_age: Option<Duration>,
    /// Told to every node with the new status when the apply changed anything; `None` tells nobody.
    pub announce: Option<StatusReason>,
}

/// What one [`Write`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The mirror differs from before.
    Changed,
    /// It already said the same.
    Same,
    /// The mirror knows something newer and kept it.
    Older { newer: Fence },
}

/// What every script call tells on the side.
#[derive(Clone, Debug)]
pub struct Pulse {
    /// The mirror's clock, ms.
    pub now_ms: u64,
    /// `None`: the mirror was emptied or replaced and nobody has finished seeding it; it must not be believed.
    pub epoch: Option<Arc<str>>,
    /// The newest published snapshot; `None` without an epoch.
    pub snapshot: Option<Snapshot>,
    /// A change of the count waits for its window: call [`Mirror::tick`] after this long.
    pub due_in: Option<Duration>,
}

/// A report on a batch of writes.
#[derive(Clone, Debug)]
pub struct ApplyReport {
    /// In the order of the writes.
    pub outcomes: Vec<Applied>,
    pub pulse: Pulse,
}

/// One heartbeat: extends life, never gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    pub id: MitraId,
    /// The go-online it belongs to, as far as the sender knows.
    pub online_epoch: i64,
    /// When it was heard, in the mirror's milliseconds. A time later than the mirror's own is taken as now.
    pub at_ms: u64,
}

/// Why a heartbeat was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The mirror knows the mitra as offline.
    Offline,
    /// Deactivated by staff.
    Deactivated,
    /// The mirror has never heard of it.
    Unknown,
    /// Online, but in another go-online than the sender believes.
    OtherEpoch,
}

/// A refused heartbeat teaches: what the mirror knows instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub id: MitraId,
    pub why: Refused,
    /// The mirror's current online epoch of this mitra, 0 when unknown.
    pub online_epoch: i64,
}

/// A report on a batch of heartbeats.
#[derive(Clone, Debug)]
pub struct BeatReport {
    pub refused: Vec<Refusal>,
    pub pulse: Pulse,
}

/// What the mirror knows about one mitra. Reads of a fact go straight to `facts`.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub id: MitraId,
    /// As last applied; a claimed mitra is not online.
    pub facts: MitraFacts,
    /// Age of the last heartbeat; `None` when not listed.
    pub heartbeat_age: Option<Duration>,
}

impl Deref for Entry {
    type Target = MitraFacts;

    fn deref(&self) -> &MitraFacts {
        &self.facts
    }
}

/// What the mirror knows about some, and whether it may be believed.
#[derive(Clone, Debug, PartialEq)]
pub struct Entries {
    /// In the order asked.
    pub of_each: Vec<Option<Entry>>,
    /// As in [`Pulse`].
    pub epoch: Option<Arc<str>>,
}

/// One page of the listed mitras without a fresh heartbeat, the oldest silence first.
#[derive(Clone, Debug)]
pub struct Suspects {
    pub found: Vec<LastHeard>,
    pub pulse: Pulse,
}

/// A silent mitra that was taken out of the indexes by [`Mirror::claim_silent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub id: MitraId,
    pub online_epoch: i64,
    /// Its last heartbeat, ms; for putting it back.
    pub last_ms: u64,
}

/// A point of the dashboard's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryPoint {
    pub at: DateTime<Utc>,
    pub online: u64,
    pub available: u64,
}

/// What a mirror tells a node unasked. Hints only: a lagged receiver resyncs.
#[derive(Clone, Debug)]
pub enum MirrorEvent {
    /// A snapshot as published on `availability:events`.
    Snapshot(Snapshot),
    /// A message on `hadir:control`.
    Control(ControlMessage),
    /// The connection came back: the mirror may have missed writes and we may have missed messages.
    Connected,
    /// The connection was lost.
    Disconnected,
    /// Messages may have been missed (the listening connection is new, or it lagged): read the snapshot afresh.
    Missed,
}

/// Liveness and the snapshot.
#[async_trait]
pub trait Mirror: Send + Sync + 'static {
    /// Which mirror this is, for `source`.
    fn source(&self) -> Source;

    /// What it tells unasked. Bounded (4,096 events); a receiver that lags is told so and must read afresh.
    fn events(&self) -> broadcast::Receiver<MirrorEvent>;

    /// Compares by fence and applies. Equal fence: content is compared and repaired. Counts and publishes afterwards.
    /// At most 1,000 writes.
    async fn apply(&self, writes: &[Write]) -> Result<ApplyReport, MirrorError>;

    /// Extends life. At most 1,000 beats, one call. Counts and publishes afterwards.
    async fn beat(&self, beats: &[Beat]) -> Result<BeatReport, MirrorError>;

    /// Counts; publishes when the count changed and the window allows; keeps `availability:snapshot` and the history
    /// fresh. Cheap (O(log n)); every node calls it, the script sees to it that the work is done once.
    async fn tick(&self) -> Result<Pulse, MirrorError>;

    /// The counts, O(log n). Session counts by status are not known here and are zero.
    async fn counts(&self) -> Result<(Counts, Pulse), MirrorError>;

    /// A fair random sample of those available now, O(log n + limit).
    async fn find_available(&self, limit: u32) -> Result<(AvailablePage, Pulse), MirrorError>;

    /// One page of the listed mitras without a fresh heartbeat, the oldest silence first; fewer than `limit` only at the
    /// end. O(log² n + limit). At most 1,000.
    async fn suspects(&self, after: Option<LastHeard>, limit: u32) -> Result<Suspects, MirrorError>;

    /// What is known of each id, in order. At most 1,000 ids.
    async fn entries(&self, ids: &[MitraId]) -> Result<Entries, MirrorError>;

    /// One look at `mitras:deactivated`.
    async fn is_deactivated(&self, id: MitraId) -> Result<bool, MirrorError>;

    /// The cached key `availability:snapshot`, if it lives.
    async fn cached_snapshot(&self) -> Result<Option<Snapshot>, MirrorError>;

    /// How many listed mitras have been silent for at least this long (read only).
    async fn count_silent(&self, silent_for: Duration) -> Result<u64, MirrorError>;

    /// Finds up to `limit` listed mitras silent for at least `silent_for`, chosen at random among them and no more than
    /// `caution` allows; re-checks each one's exact score in the same script, and takes them out of sets, indexes and
    /// heartbeat keys (the fence stays). The caller must write the truth next and apply it, or put them back with
    /// [`Mirror::unclaim`]. Claims that their node abandoned come first and are no part of anybody's share.
    async fn claim_silent(&self, silent_for: Duration, limit: u32, caution: &Caution) -> Result<Claims, MirrorError>;

    /// Puts claimed mitras back as they were, unless something newer was applied meanwhile.
    async fn unclaim(&self, claimed: &[Claimed]) -> Result<(), MirrorError>;

    /// One page of the ids the mirror knows; `cursor` 0 begins, a returned 0 ends. May repeat ids.
    async fn known(&self, cursor: u64) -> Result<(u64, Vec<MitraId>), MirrorError>;

    /// Removes every trace of ids that the store no longer has, unless their fence is newer than `seen`.
    async fn forget(&self, ids: &[(MitraId, Fence)]) -> Result<u64, MirrorError>;

    /// Declares the mirror seeded: sets the epoch if there is none, or if another server than this one began it, and
    /// returns the one in force. Fails when there is none and fewer mitras than these are known: it was emptied while it was
    /// seeded.
    async fn open_epoch(&self, seeded: u64) -> Result<Arc<str>, MirrorError>;

    /// Tells every node, this one included.
    async fn tell(&self, message: &ControlMessage) -> Result<(), MirrorError>;

    /// Writes this node's record and returns those of all live nodes (seen within 10 s).
    async fn report_node(&self, record: &NodeRecord) -> Result<Vec<NodeRecord>, MirrorError>;

    /// The last hour at 10 s, oldest first.
    async fn history(&self) -> Result<Vec<HistoryPoint>, MirrorError>;

    /// The node's own probe did not come back: replaces the listening connection. [`MirrorEvent::Missed`] follows.
    async fn resubscribe(&self) {}

    /// Tries what a node will do, with keys of its own that it removes. What was found in words, or every misfit. `patience`:
    /// how long it may take to connect.
    async fn preflight(&self, patience: Duration) -> Result<String, Vec<String>>;

    /// Ends connections and takes the node's record away; nothing may be called after.
    async fn close(&self);
}
