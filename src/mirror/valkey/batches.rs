//! Batches of rows, heartbeats and questions, each one run of a script.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fred::types::Value;

use super::{
    ValkeyMirror, catalog, control_json,
    reply::{self, decimal},
};
use crate::{
    domain::{Fence, LastHeard, MitraId, StatusChange},
    mirror::{
        Applied, ApplyReport, BATCH, Beat, BeatReport, Entries, Entry, Mirror, MirrorError, Pulse, Refusal, Refused,
        Suspects, Write,
    },
    protocol::ControlMessage,
};

impl ValkeyMirror {
    /// The server's clock now, at most as late as it is: from the last pulse that came back from an apply or a tick.
    async fn now_ms(&self) -> Result<u64, MirrorError> {
        let known = *self.clock.lock();
        let (then, now_ms) = match known {
            Some(known) => known,
            None => {
                let now_ms = self.tick().await?.now_ms;
                // After the answer: counted from the question, the reckoning would be ahead of the server.
                (Instant::now(), now_ms)
            }
        };
        Ok(now_ms + then.elapsed().as_millis() as u64)
    }

    /// The reply was written before it came: whatever is reckoned from here on is never ahead of the server.
    pub(super) fn learn_clock(&self, pulse: &Pulse) {
        *self.clock.lock() = Some((Instant::now(), pulse.now_ms));
    }

    pub(super) async fn suspects_page(&self, after: Option<LastHeard>, limit: u32) -> Result<Suspects, MirrorError> {
        let (after_ms, after_id) =
            after.map_or_else(Default::default, |after| (after.at_ms.to_string(), after.id.to_string()));
        let mut arguments = self.arguments(3);
        arguments.extend([
            Value::Integer(i64::from(limit).min(BATCH as i64)),
            Value::from(after_ms),
            Value::from(after_id),
        ]);
        let mut reply = self.run(&catalog::SUSPECTS, self.keys.fixed(0), arguments).await?;
        let pulse = reply.pulse()?;
        let mut words = reply.list()?;
        let mut found = Vec::with_capacity(words.len() / 2);
        while words.len() > 0 {
            let (id, at_ms) = (words.id()?, words.number()?);
            found.extend(id.map(|id| LastHeard { at_ms, id }));
        }
        Ok(Suspects { found, pulse })
    }

    pub(super) async fn apply_distinct(&self, writes: &[Write]) -> Result<ApplyReport, MirrorError> {
        let now_ms = if writes.is_empty() { 0 } else { self.now_ms().await? };
        let beat_ms = |age: Duration| Value::Integer(now_ms.saturating_sub(age.as_millis() as u64) as i64);
        let mut arguments = self.arguments(writes.len() * 4);
        for Write { row, heartbeat_age, announce } in writes {
            let announcement = match announce {
                Some(reason) => control_json(&ControlMessage::Status(StatusChange::of(row, *reason)))?,
                None => String::new(),
            };
            arguments.extend([
                Value::from(row.id.to_string()),
                Value::from(reply::record(row)),
                heartbeat_age.map_or_else(|| Value::from(""), beat_ms),
                Value::from(announcement),
            ]);
        }
        let keys = self.keys_of(writes.iter().map(|write| write.row.id));
        let mut reply = self.run(&catalog::APPLY, keys, arguments).await?;
        let pulse = reply.pulse()?;
        self.learn_clock(&pulse);
        let mut words = reply.list()?;
        let outcomes = writes
            .iter()
            .map(|_| {
                Ok(match words.text()?.as_str() {
                    "changed" => Applied::Changed,
                    "same" => Applied::Same,
                    fence => Applied::Older { newer: parse_fence(fence)? },
                })
            })
            .collect::<Result<_, MirrorError>>()?;
        Ok(ApplyReport { outcomes, pulse })
    }

    pub(super) async fn beat_batch(&self, beats: &[Beat]) -> Result<BeatReport, MirrorError> {
        let at = |at_ms: u64| Value::Integer(i64::try_from(at_ms).unwrap_or(i64::MAX));
        let mut keys = self.keys.fixed(beats.len());
        let mut arguments = self.arguments(1 + beats.len() * 3);
        arguments.push(at(beats.iter().map(|beat| beat.at_ms).max().unwrap_or(0)));
        // How the record of a listed mitra in this go-online begins.
        arguments.extend(beats.iter().map(|beat| Value::from(format!("o:{}:", decimal(beat.online_epoch)))));
        for beat in beats {
            let id = beat.id.to_string();
            keys.push(self.keys.heartbeat(&id));
            arguments.extend([at(beat.at_ms), Value::from(id)]);
        }
        let mut reply = self.run(&catalog::BEAT, keys, arguments).await?;
        let pulse = reply.pulse()?;
        let mut words = reply.list()?;
        let mut refused = Vec::with_capacity(words.len() / 3);
        while words.len() > 0 {
            let (id, why, online_epoch) = (words.id()?, words.text()?, words.number()?);
            let why = match why.as_str() {
                "offline" => Refused::Offline,
                "deactivated" => Refused::Deactivated,
                "other_epoch" => Refused::OtherEpoch,
                _ => Refused::Unknown,
            };
            refused.extend(id.map(|id| Refusal { id, why, online_epoch }));
        }
        Ok(BeatReport { refused, pulse })
    }

    pub(super) async fn entries_batch(&self, ids: &[MitraId]) -> Result<Entries, MirrorError> {
        let mut arguments = self.arguments(ids.len());
        arguments.extend(ids.iter().map(|id| Value::from(id.to_string())));
        let mut reply = self.run(&catalog::ENTRIES, self.keys.fixed(0), arguments).await?;
        let now_ms = reply.number()?;
        let epoch = Some(reply.text()?).filter(|epoch| !epoch.is_empty()).map(Arc::from);
        let mut words = reply.list()?;
        let of_each: Result<_, MirrorError> = ids
            .iter()
            .map(|id| {
                let (record, last_ms) = (words.text()?, words.text()?);
                let age = last_ms.parse().ok().map(|last_ms| reply::age(now_ms, last_ms));
                Ok(reply::facts(&record).map(|facts| Entry { id: *id, facts, heartbeat_age: age }))
            })
            .collect();
        Ok(Entries { of_each: of_each?, epoch })
    }
}

fn parse_fence(text: &str) -> Result<Fence, MirrorError> {
    text.split_once(':')
        .and_then(|(generation, revision)| {
            Some(Fence { generation: generation.parse().ok()?, revision: revision.parse().ok()? })
        })
        .ok_or_else(|| MirrorError::new(format!("script `apply` answered `{text}`, which is no outcome")))
}
