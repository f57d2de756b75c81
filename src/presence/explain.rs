//! Everything an operator asks about one mitra at night, and in words why it is or is not available.

use std::time::Duration;

use super::{Presence, PresenceError};
use crate::{
    domain::{MitraId, MitraRow, SessionId},
    protocol::{Explanation, MirrorEvidence, NodeEvidence, StoreEvidence, timestamp},
    replication::Entry,
};

/// Events shown.
const EVENTS: u32 = 20;
/// Sessions named; a mitra with more has them counted.
const SESSIONS: u32 = 20;

impl Presence {
    /// Everything known about one mitra. Takes up to half a second when a node does not answer.
    ///
    /// # Errors
    /// Unknown mitra; the store cannot be asked.
    pub async fn explain(&self, id: MitraId) -> Result<Explanation, PresenceError> {
        let profile = self.replication.store.profile(id).await?.ok_or(PresenceError::UnknownMitra)?;
        let row = &profile.row;
        let asked = self.replication.mirror.trusted_entries(&[id]).await;
        let mirror_answered = asked.is_some();
        let entry = asked.and_then(|mut entries| entries.pop().flatten());
        let events = self.replication.store.events(id, EVENTS).await?;
        let sessions = self.replication.store.load_of(id, SESSIONS).await?;
        let (age, within, source) = match &entry {
            Some(entry) => {
                (entry.heartbeat_age, self.replication.settings.suspect_after, self.replication.mirror.source())
            }
            None => (row.heartbeat_age, self.replication.settings.fresh_in_store(), self.replication.store.source()),
        };
        let judged = row.reachability(age.is_some_and(|age| age <= within));
        let answer = self.answer("explain", (), source);
        let verdict = if judged.available {
            "Available.".to_owned()
        } else {
            let why = self.why_not(row, judged.reachable, age, &sessions).await?;
            format!("Not available: {why}.")
        };
        let remark = if mirror_answered {
            remark(row, entry.as_ref())
        } else {
            Some("Judged by the store, because the mirror cannot be asked.")
        };
        let seat = self.replication.hub.seat_of(id);
        Ok(Explanation {
            mitra_id: id,
            verdict: remark.into_iter().fold(verdict, |verdict, remark| format!("{verdict} {remark}")),
            available: judged.available,
            reachable: judged.reachable,
            truth: StoreEvidence {
                facts: row.facts,
                heartbeat_age_ms: row.heartbeat_age.map(|age| age.as_millis() as u64),
            },
            mirror: entry.map(|entry| MirrorEvidence {
                facts: entry.facts,
                heartbeat_age_ms: entry.heartbeat_age.map(|age| age.as_millis() as u64),
                agrees: entry.facts == row.facts,
            }),
            node: NodeEvidence {
                node_id: self.replication.settings.node_id.clone(),
                mode: self.replication.mode.mode().as_str(),
                heartbeat_age_ms: seat
                    .and_then(|seat| seat.beat_age(self.replication.hub.now_ms()))
                    .map(|age| age.as_millis() as u64),
            },
            sockets: self.cluster.sockets_by_node(id.into()).await,
            sessions,
            display_name: profile.display_name,
            events,
            source: answer.source,
            stale: answer.stale,
            as_of: timestamp(answer.as_of),
        })
    }

    /// The first of the reasons, as a clause.
    async fn why_not(
        &self,
        row: &MitraRow,
        reachable: bool,
        age: Option<Duration>,
        sessions: &[SessionId],
    ) -> Result<String, PresenceError> {
        if !row.active {
            return Ok(format!("deactivated{}", self.since(row.id, "deactivated").await?));
        }
        if !row.online {
            return Ok(match row.online_epoch {
                0 => "offline, and was never online".to_owned(),
                _ => format!("offline{}", self.since(row.id, "offline").await?),
            });
        }
        if !reachable {
            return Ok(match age {
                Some(age) => format!("online but suspect, the last heartbeat is {} s old", age.as_secs()),
                None => "online but suspect, no heartbeat is known".to_owned(),
            });
        }
        let named: Vec<String> = sessions.iter().map(ToString::to_string).collect();
        let more = u64::from(row.sessions).saturating_sub(named.len() as u64);
        Ok(match (named.is_empty(), more) {
            (true, _) => format!("busy with {} of {} sessions", row.sessions, row.max_sessions),
            (false, 0) => format!("busy with {} of {} sessions ({})", row.sessions, row.max_sessions, named.join(", ")),
            (false, more) => format!(
                "busy with {} of {} sessions ({} and {more} more)",
                row.sessions,
                row.max_sessions,
                named.join(", ")
            ),
        })
    }

    /// Since when and by whom, however much happened after.
    async fn since(&self, id: MitraId, kind: &str) -> Result<String, PresenceError> {
        let event = self.replication.store.latest_event(id, kind).await?;
        Ok(event.map_or_else(
            || " for longer than events are kept".to_owned(),
            |event| {
                let why = event.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
                format!(" since {} by {}{why}", timestamp(event.at), event.actor)
            },
        ))
    }
}

/// What others may see differently, because they ask the mirror.
fn remark(row: &MitraRow, entry: Option<&Entry>) -> Option<&'static str> {
    match entry {
        None if row.online || !row.active => Some("The mirror does not know this mitra until the next reseed."),
        None => None,
        Some(entry) if entry.fence < row.fence => Some("The mirror lags behind and follows within a moment."),
        Some(entry) if entry.fence > row.fence => Some("It changed while this was asked: ask again."),
        Some(entry) if entry.facts != row.facts => Some("The mirror says otherwise, until the next reseed."),
        Some(_) => None,
    }
}
