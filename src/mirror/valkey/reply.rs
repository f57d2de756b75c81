//! Reading what the scripts answer and other nodes publish. Anything unexpected is an error, never an empty answer.

use std::{str::FromStr, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use fred::types::Value;
use serde::Deserialize;

use crate::{
    domain::{Fence, MitraFacts, MitraRow, Snapshot, Source},
    mirror::{MirrorError, Pulse},
};

/// A list of a script's answer, read from front to back.
pub(super) struct Reply {
    of: &'static str,
    values: std::vec::IntoIter<Value>,
}

impl Reply {
    pub fn new(of: &'static str, value: Value) -> Result<Self, MirrorError> {
        match value {
            Value::Array(values) => Ok(Self { of, values: values.into_iter() }),
            _ => Err(unexpected(of, "a list")),
        }
    }

    /// How many values are left.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    fn value(&mut self) -> Result<Value, MirrorError> {
        self.values.next().ok_or_else(|| unexpected(self.of, "more values"))
    }

    pub fn list(&mut self) -> Result<Reply, MirrorError> {
        Reply::new(self.of, self.value()?)
    }

    pub fn text(&mut self) -> Result<String, MirrorError> {
        self.value()?.into_string().ok_or_else(|| unexpected(self.of, "text"))
    }

    /// A number, as such or as text.
    pub fn number<N: FromStr>(&mut self) -> Result<N, MirrorError> {
        self.text()?.parse().map_err(|_| unexpected(self.of, "a number in range"))
    }

    /// An id. Other programs may have written words that are none: `None`.
    pub fn id<I: FromStr>(&mut self) -> Result<Option<I>, MirrorError> {
        Ok(self.text()?.parse().ok())
    }

    pub fn pulse(&mut self) -> Result<Pulse, MirrorError> {
        self.list()?.into_pulse()
    }

    /// The six values of the prelude's `pulse()`.
    pub fn into_pulse(mut self) -> Result<Pulse, MirrorError> {
        let now_ms = self.number()?;
        let epoch = self.text()?;
        let (version, available) = (self.number()?, self.number()?);
        let as_of = timestamp(self.of, self.values.next())?;
        let due_ms: i64 = self.number()?;
        if epoch.is_empty() {
            return Ok(Pulse { now_ms, epoch: None, snapshot: None, due_in: None });
        }
        let epoch: Arc<str> = Arc::from(epoch);
        let snapshot =
            Snapshot { epoch: epoch.clone(), version, available, as_of, source: Source::Valkey, stale: false };
        Ok(Pulse {
            now_ms,
            epoch: Some(epoch),
            snapshot: Some(snapshot),
            due_in: u64::try_from(due_ms).ok().map(Duration::from_millis),
        })
    }
}

/// All words of a list.
pub(super) fn strings(mut reply: Reply) -> Result<Vec<String>, MirrorError> {
    (0..reply.len()).map(|_| reply.text()).collect()
}

fn unexpected(of: &str, wanted: &str) -> MirrorError {
    MirrorError::new(format!("script `{of}` answered without {wanted}"))
}

fn timestamp(of: &str, value: Option<Value>) -> Result<DateTime<Utc>, MirrorError> {
    value
        .and_then(|value| value.as_i64())
        .and_then(DateTime::from_timestamp_millis)
        .ok_or_else(|| unexpected(of, "a time"))
}

/// The facts in a record of `hadir:mitras`: `state:online_epoch:generation:revision:sessions:max_sessions[:last_ms]`.
pub(super) fn facts(record: &str) -> Option<MitraFacts> {
    let mut words = record.split(':');
    let state = words.next()?;
    let online_epoch = words.next()?.parse().ok()?;
    let fence = Fence { generation: words.next()?.parse().ok()?, revision: words.next()?.parse().ok()? };
    let (sessions, max_sessions) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    // Claimed as silent: the mirror no longer lists it, whatever the database will say.
    let (active, online) = match state {
        "o" => (true, true),
        "f" | "c" => (true, false),
        "x" => (false, true),
        "d" => (false, false),
        _ => return None,
    };
    Some(MitraFacts { online, active, sessions, max_sessions, fence, online_epoch })
}

/// The record of a row that is applied.
pub(super) fn record(row: &MitraRow) -> String {
    let state = match (row.active, row.online) {
        (true, true) => 'o',
        (true, false) => 'f',
        (false, true) => 'x',
        (false, false) => 'd',
    };
    let MitraFacts { online_epoch, fence, sessions, max_sessions, .. } = row.facts;
    let [online_epoch, generation, revision] = [online_epoch, fence.generation, fence.revision].map(decimal);
    format!("{state}:{online_epoch}:{generation}:{revision}:{sessions}:{max_sessions}")
}

/// A number of the store as the scripts take it: digits only, which they compare as text. Stores number from 1.
pub(super) fn decimal(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Age of a heartbeat at `now_ms`; one from the future has none.
pub(super) fn age(now_ms: u64, at_ms: u64) -> Duration {
    Duration::from_millis(now_ms.saturating_sub(at_ms))
}

#[derive(Deserialize)]
struct AvailabilityFrame {
    #[serde(rename = "type")]
    kind: String,
    epoch: String,
    version: u64,
    available: u64,
    as_of: DateTime<Utc>,
    source: Source,
    stale: bool,
}

/// The availability frame as the scripts write it; `None` if it is anything else.
pub(super) fn snapshot(json: &str) -> Option<Snapshot> {
    let frame: AvailabilityFrame = serde_json::from_str(json).ok()?;
    let AvailabilityFrame { kind, epoch, version, available, as_of, source, stale } = frame;
    (kind == "availability").then(|| Snapshot { epoch: epoch.into(), version, available, as_of, source, stale })
}
