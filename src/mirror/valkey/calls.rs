//! The trait, translated into runs of scripts and a few plain commands.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use async_trait::async_trait;
use fred::{
    interfaces::{HashesInterface, KeysInterface, ListInterface, PubsubInterface, SetsInterface},
    types::Value,
};
use tokio::sync::broadcast;

use super::{CLOSE, ValkeyMirror, catalog, connection, control_json, millis, random, reply};
use crate::{
    domain::{AvailableMitra, AvailablePage, Counts, Fence, LastHeard, MitraId, NodeRecord, Snapshot, Source},
    mirror::{
        ApplyReport, BATCH, Beat, BeatReport, Caution, Claimed, Claims, Entries, HistoryPoint, Mirror, MirrorError,
        MirrorEvent, Pulse, Suspects, Write,
    },
    protocol::ControlMessage,
};

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
        let mut keys = self.keys.fixed(2);
        keys.extend([self.keys.caution.clone(), self.keys.nodes.clone()]);
        let pulse = self.run(&catalog::TICK, keys, self.arguments(0)).await?.into_pulse()?;
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
        let keys = vec![self.keys.snapshot.clone(), self.keys.store.clone()];
        let found: Result<(Option<String>, Option<String>), _> = self.connection.commands().mget(keys).await;
        let (json, owner) = self.connection.judge("read the cached snapshot", found)?;
        let is_ours = self.store.is_empty() || owner.is_some_and(|owner| owner == self.store);
        Ok(json.filter(|_| is_ours).and_then(|json| reply::snapshot(&json)))
    }

    async fn count_silent(&self, silent_for: Duration) -> Result<u64, MirrorError> {
        Ok(self.silent(silent_for, 0).await?.0)
    }

    async fn claim_silent(&self, silent_for: Duration, limit: u32, caution: &Caution) -> Result<Claims, MirrorError> {
        self.run_claim(silent_for, limit, caution).await
    }

    async fn unclaim(&self, claimed: &[Claimed]) -> Result<(), MirrorError> {
        self.run_unclaim(claimed).await
    }

    async fn known(&self, cursor: u64) -> Result<(u64, Vec<MitraId>), MirrorError> {
        self.page_of_known(cursor).await
    }

    async fn forget(&self, ids: &[(MitraId, Fence)]) -> Result<u64, MirrorError> {
        self.run_forget(ids).await
    }

    async fn preflight(&self, patience: Duration) -> Result<String, Vec<String>> {
        self.try_everything(patience).await
    }

    async fn open_epoch(&self, seeded: u64) -> Result<Arc<str>, MirrorError> {
        let mut arguments = self.arguments(2);
        arguments.push(Value::from(uuid::Uuid::new_v4().simple().to_string()));
        arguments.push(Value::Integer(i64::try_from(seeded).unwrap_or(i64::MAX)));
        let pulse = self.run(&catalog::OPEN, self.keys.fixed(0), arguments).await?.into_pulse()?;
        pulse.epoch.ok_or_else(|| MirrorError::new("the mirror was emptied while it was seeded"))
    }

    async fn tell(&self, message: &ControlMessage) -> Result<(), MirrorError> {
        let json = control_json(message)?;
        let told: Result<(), _> = self.connection.commands().publish(self.keys.control.as_str(), json).await;
        self.connection.judge("tell the other nodes", told)
    }

    async fn report_node(&self, record: &NodeRecord) -> Result<Vec<NodeRecord>, MirrorError> {
        let json = serde_json::to_string(record).map_err(|error| MirrorError::new(error.to_string()))?;
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
        // In the mirror of another store the record of this name is another node's.
        if !self.is_foreign.load(Relaxed) {
            let left: Result<(), _> = self.connection.commands().hdel(&self.keys.nodes, self.node.as_str()).await;
            if let Err(error) = self.connection.judge("take the node's record away", left) {
                tracing::debug!(%error, "the node's record will expire by itself");
            }
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
