//! Everything an operator asks about one mitra at night, and in words why it is or is not available.

use serde::Serialize;

use super::{Presence, PresenceError};
use crate::{
    domain::{Fence, MitraId, PresenceEvent, Source},
    mirror::Entry,
    protocol::timestamp,
    store::MitraProfile,
};

/// Events shown.
const EVENTS: u32 = 20;

/// Everything known about one mitra.
#[derive(Debug, Serialize)]
pub struct Explanation {
    pub mitra_id: MitraId,
    pub display_name: String,
    /// One sentence.
    pub verdict: String,
    pub available: bool,
    pub reachable: bool,
    pub truth: Truth,
    /// `None`: the mirror does not know the mitra, or cannot be asked.
    pub mirror: Option<Mirrored>,
    pub node: Here,
    pub events: Vec<PresenceEvent>,
    pub source: Source,
    pub stale: bool,
    pub as_of: String,
}

/// What the store says.
#[derive(Debug, Serialize)]
pub struct Truth {
    pub online: bool,
    pub active: bool,
    pub sessions: u32,
    pub max_sessions: u32,
    pub fence: Fence,
    pub online_epoch: i64,
    pub heartbeat_age_ms: Option<u64>,
}

/// What the mirror says.
#[derive(Debug, Serialize)]
pub struct Mirrored {
    pub online: bool,
    pub active: bool,
    pub sessions: u32,
    pub max_sessions: u32,
    pub fence: Fence,
    pub online_epoch: i64,
    pub heartbeat_age_ms: Option<u64>,
    /// Holds the same fence as the store.
    pub agrees: bool,
}

/// What the answering node holds.
#[derive(Debug, Serialize)]
pub struct Here {
    pub node_id: String,
    pub mode: &'static str,
    pub sockets: u64,
    pub heartbeat_age_ms: Option<u64>,
}

impl Presence {
    /// Everything known about one mitra.
    ///
    /// # Errors
    /// Unknown mitra; the store cannot be asked.
    pub async fn explain(&self, id: MitraId) -> Result<Explanation, PresenceError> {
        let profile = self.asked_store("profile", self.store.profile(id).await)?.ok_or(PresenceError::UnknownMitra)?;
        let events = self.asked_store("events", self.store.events(id, EVENTS).await)?;
        let entry = if self.gate.is_live() {
            let answer = self.asked_mirror("entries", self.mirror.entries(&[id]).await);
            answer.ok().and_then(|mut entries| entries.pop().flatten())
        } else {
            None
        };
        let live = self.gate.is_live();
        let (age, within, source) = match &entry {
            Some(entry) => (entry.heartbeat_age, self.settings.suspect_after, self.mirror.source()),
            None => (profile.row.heartbeat_age, self.fresh_in_store(), self.store.source()),
        };
        let fresh = age.is_some_and(|age| age <= within);
        let judged = profile.row.reachability(fresh);
        let answer = self.answer("explain", (), source);
        let verdict = verdict(&profile, entry.as_ref(), fresh, live, age.map(|age| age.as_secs()), &events);
        let seat = self.hub.seat_of(id);
        let row = &profile.row;
        Ok(Explanation {
            mitra_id: id,
            verdict,
            available: judged.available,
            reachable: judged.reachable,
            truth: Truth {
                online: row.online,
                active: row.active,
                sessions: row.sessions,
                max_sessions: row.max_sessions,
                fence: row.fence,
                online_epoch: row.online_epoch,
                heartbeat_age_ms: row.heartbeat_age.map(|age| age.as_millis() as u64),
            },
            mirror: entry.map(|entry| Mirrored {
                online: entry.online,
                active: entry.active,
                sessions: entry.sessions,
                max_sessions: entry.max_sessions,
                fence: entry.fence,
                online_epoch: entry.online_epoch,
                heartbeat_age_ms: entry.heartbeat_age.map(|age| age.as_millis() as u64),
                agrees: entry.fence == row.fence,
            }),
            node: Here {
                node_id: self.settings.node_id.to_string(),
                mode: self.mode().as_str(),
                sockets: self.hub.sockets_of(id.into()),
                heartbeat_age_ms: seat
                    .and_then(|seat| seat.beat_age(self.hub.now_ms()))
                    .map(|age| age.as_millis() as u64),
            },
            display_name: profile.display_name,
            events,
            source: answer.source,
            stale: answer.stale,
            as_of: timestamp(answer.as_of),
        })
    }
}

fn verdict(
    profile: &MitraProfile,
    entry: Option<&Entry>,
    fresh: bool,
    live: bool,
    silent_seconds: Option<u64>,
    events: &[PresenceEvent],
) -> String {
    let row = &profile.row;
    let last = |kind: &str| {
        events.iter().find(|event| event.kind == kind).map_or_else(String::new, |event| {
            let why = event.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            format!(" since {} by {}{why}", timestamp(event.at), event.actor)
        })
    };
    if !row.active {
        return format!("Not available: deactivated{}.", last("deactivated"));
    }
    if !row.online {
        return format!("Not available: offline{}.", last("offline"));
    }
    if !fresh {
        return match silent_seconds {
            Some(seconds) => format!("Not available: online but suspect, the last heartbeat is {seconds} s old."),
            None => "Not available: online but suspect, no heartbeat is known.".to_owned(),
        };
    }
    if !row.has_room() {
        return format!("Not available: busy with {} of {} sessions.", row.sessions, row.max_sessions);
    }
    match entry {
        Some(entry) if entry.fence != row.fence => {
            "Available in the store; the mirror lags behind and will follow within a moment.".to_owned()
        }
        None if live => "Available in the store; the mirror does not know the mitra until the next reseed.".to_owned(),
        None => "Available, judged by the store because the mirror cannot be asked.".to_owned(),
        Some(_) => "Available.".to_owned(),
    }
}
