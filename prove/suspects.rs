//! Mitras that must not be shown any more: one that was deactivated, one that fell silent. Each node is asked about them again
//! and again; what still shows them is ghost time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use reqwest::Method;
use tokio::{task::JoinSet, time::sleep};

use crate::{http::Door, kit::tokens::subject};

const ASK: Duration = Duration::from_millis(100);

/// What the nodes said of one mitra.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// When it was last called available, per node.
    pub shown: [Option<Instant>; 2],
    /// When a heartbeat of it was last accepted, per node.
    pub accepted: [Option<Instant>; 2],
    /// How many heartbeats were refused as deactivated, per node.
    pub refused: [u64; 2],
    /// Answers to its heartbeats that were neither, by status: only an outage excuses them.
    pub others: Vec<(Instant, u16)>,
}

/// Asks until it is dropped.
pub struct Suspect {
    said: Arc<Mutex<Said>>,
    _tasks: JoinSet<()>,
}

impl Suspect {
    /// Asks about this mitra; with `beats` also sends its heartbeats by REST.
    pub fn watch(number: u64, doors: &[Door], beats: bool) -> Self {
        let said = Arc::new(Mutex::new(Said::default()));
        let mut tasks = JoinSet::new();
        for (node, door) in doors.iter().enumerate() {
            tasks.spawn(look(number, node, door.clone(), Arc::clone(&said)));
            if beats {
                tasks.spawn(beat(number, node, door.clone(), Arc::clone(&said)));
            }
        }
        Self { said, _tasks: tasks }
    }

    /// What was said so far.
    pub fn said(&self) -> Said {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For how long after a moment somebody still showed it as available.
    pub fn shown_after(&self, since: Instant) -> Duration {
        let latest = self.said().shown.into_iter().flatten().max();
        latest.map_or(Duration::ZERO, |at| at.saturating_duration_since(since))
    }

    /// For how long after a moment somebody still took its heartbeats.
    pub fn accepted_after(&self, since: Instant) -> Duration {
        let latest = self.said().accepted.into_iter().flatten().max();
        latest.map_or(Duration::ZERO, |at| at.saturating_duration_since(since))
    }
}

async fn look(number: u64, node: usize, door: Door, said: Arc<Mutex<Said>>) {
    let path = format!("/internal/mitras/{}/reachable", subject(number));
    loop {
        let reply = door.get(&path).await;
        // What says itself that it may be old is no claim.
        if reply.is_good() && reply.body["available"] == true && reply.body["stale"] == false {
            said.lock().unwrap_or_else(PoisonError::into_inner).shown[node] = Some(Instant::now());
        }
        sleep(ASK).await;
    }
}

async fn beat(number: u64, node: usize, door: Door, said: Arc<Mutex<Said>>) {
    loop {
        let reply = door.as_mitra(number, Method::POST, "/api/mitra/status/heartbeat").await;
        {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            match reply.status {
                403 => said.refused[node] += 1,
                200 => said.accepted[node] = Some(Instant::now()),
                other => said.others.push((Instant::now(), other)),
            }
        }
        sleep(ASK).await;
    }
}
