//! How steps are done on the real thing, and how it is looked at.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use hadir::{
    domain::{MitraId, Mode},
    mirror::{Beat, Caution, Mirror, MirrorSettings, Write},
};
use parking_lot::Mutex;
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::model::{Answer, CAPACITY, Command, Model};
use crate::{
    contract::mirror::{calm, connect},
    presence::{Keys, in_agreement},
    support::{Node, PATIENCE, World, eventually, node::Mitra},
};

const MITRAS: usize = 8;
/// Late writes and beats that are kept to be thawed.
const FROZEN: usize = 200;

/// What happens around commands, and must change nothing.
#[derive(Clone, Debug)]
pub enum Noise {
    /// Heartbeats of some time ago arrive, each twice.
    LateBeats(Vec<Beat>),
    /// A heartbeat at a node joins its next batch.
    Beat {
        node: usize,
        mitra: usize,
        online_epoch: i64,
    },
    /// A node's batch goes out.
    Flush {
        node: usize,
    },
    /// Writes that were sent long ago arrive.
    LateWrites(Vec<Write>),
    /// A sweep finds nobody who was silent.
    Sweep {
        node: usize,
    },
    Reseed {
        node: usize,
    },
    /// Somebody claims, and puts back what it claimed.
    ClaimAndPutBack,
}

/// Two nodes, a way into their Valkey beside them, and those who look on.
pub struct Stage {
    pub nodes: Vec<Node>,
    pub mitras: Vec<Mitra>,
    mirror: Arc<dyn Mirror>,
    sql: sqlx::PgPool,
    service: String,
    valkey: crate::support::valkey::Raw,
    writes: Vec<Write>,
    beats: Vec<Beat>,
    sessions: Mutex<Vec<Vec<String>>>,
    /// Frames of one customer on each node.
    frames: Vec<Arc<Mutex<Vec<Value>>>>,
}

impl Stage {
    pub async fn new(world: &World) -> Self {
        let settings = [("MITRA_MAX_SESSIONS", "2"), ("HADIR_CHANGE_FEED_SECONDS", "1")];
        let nodes = vec![world.node_with(&settings).await, world.node_with(&settings).await];
        let mut mitras = Vec::new();
        for _ in 0..MITRAS {
            mitras.push(nodes[0].mitra_with_capacity(Some(CAPACITY as u32)).await);
        }
        let settings = MirrorSettings { suspect_after: Duration::from_secs(45), ..calm() };
        let mirror = connect(&world.valkey_url(), None, settings).await;
        let mut frames = Vec::new();
        for node in &nodes {
            let seen = Arc::new(Mutex::new(Vec::new()));
            let (mut client, noted) = (node.dial_customer().await, Arc::clone(&seen));
            tokio::spawn(async move {
                while let Some(Ok(message)) = client.ws.next().await {
                    if let Message::Text(text) = message {
                        noted.lock().push(serde_json::from_str(&text).expect("JSON"));
                    }
                }
            });
            frames.push(seen);
        }
        Self {
            service: nodes[0].token(hadir::domain::Role::Service),
            sessions: Mutex::new(vec![Vec::new(); mitras.len()]),
            mitras,
            mirror: Arc::new(mirror),
            sql: world.sql().clone(),
            valkey: world.valkey(),
            writes: Vec::new(),
            beats: Vec::new(),
            frames,
            nodes,
        }
    }

    async fn rest_call(&self, node: usize, method: Method, path: &str, token: &str, body: Option<Value>) -> Answer {
        let reply = self.nodes[node].ask(method, path, token, body).await;
        if reply.status.is_success() { Answer::Done } else { Answer::Refused(reply.problem().1) }
    }

    async fn statement(&self, sql: &'static str, id: MitraId) -> Answer {
        match sqlx::query(sql).bind(id.0).execute(&self.sql).await {
            Ok(_) => Answer::Done,
            Err(_) => Answer::Refused("sql".to_owned()),
        }
    }

    /// Does it, and says how it was answered.
    pub async fn command(&self, number: usize, command: Command) -> Answer {
        let mitra = &self.mitras[number];
        let own = |what: &str| format!("/api/mitra/status/{what}");
        let patch = |active: bool| json!({ "is_active": active });
        let status = format!("/internal/mitras/{}/status", mitra.id);
        match command {
            Command::Online { node } => self.rest_call(node, Method::POST, &own("online"), &mitra.token, None).await,
            Command::Offline { node } => self.rest_call(node, Method::POST, &own("offline"), &mitra.token, None).await,
            Command::Deactivate { node } => {
                self.rest_call(node, Method::PATCH, &status, &self.service, Some(patch(false))).await
            }
            Command::Reactivate { node } => {
                self.rest_call(node, Method::PATCH, &status, &self.service, Some(patch(true))).await
            }
            Command::OnlineBySql => {
                self.statement("UPDATE mitra_status SET is_online = true WHERE mitra_id = $1", mitra.id).await
            }
            Command::OfflineBySql => {
                self.statement("UPDATE mitra_status SET is_online = false WHERE mitra_id = $1", mitra.id).await
            }
            Command::DeactivateBySql => {
                self.statement("UPDATE mitras SET is_active = false WHERE id = $1", mitra.id).await
            }
            Command::ReactivateBySql => {
                self.statement("UPDATE mitras SET is_active = true WHERE id = $1", mitra.id).await
            }
            Command::Accept { node } => self.accept(node, number).await,
            Command::End { node } => {
                let last = self.sessions.lock()[number].pop();
                let Some(session) = last else { return Answer::Done };
                self.rest_call(node, Method::POST, &format!("/internal/sessions/{session}/end"), &self.service, None)
                    .await
            }
        }
    }

    async fn accept(&self, node: usize, number: usize) -> Answer {
        let session = uuid::Uuid::new_v4().to_string();
        let body = json!({ "customer_id": uuid::Uuid::new_v4(), "id": session });
        let created = self.rest_call(node, Method::POST, "/internal/sessions", &self.service, Some(body)).await;
        assert_eq!(created, Answer::Done);
        let body = json!({ "mitra_id": self.mitras[number].id, "payment": "paid", "duration_seconds": 3_600 });
        let path = format!("/internal/sessions/{session}/accept");
        let answer = self.rest_call(node, Method::POST, &path, &self.service, Some(body)).await;
        if answer == Answer::Done {
            self.sessions.lock()[number].push(session);
        }
        answer
    }

    /// What comes beside the commands of a round.
    pub fn noise(&self, random: &mut StdRng) -> Vec<Noise> {
        let count = random.random_range(0..5);
        (0..count)
            .map(|_| match random.random_range(0..10) {
                0 | 1 => Noise::LateBeats(self.beats.sample(random, 6).copied().collect()),
                2 | 3 => Noise::LateWrites(self.writes.sample(random, 4).cloned().collect()),
                4 | 5 => Noise::Beat {
                    node: random.random_range(0..2),
                    mitra: random.random_range(0..MITRAS),
                    online_epoch: random.random_range(0..6),
                },
                6 | 7 => Noise::Flush { node: random.random_range(0..2) },
                8 if random.random_bool(0.5) => Noise::ClaimAndPutBack,
                8 => Noise::Sweep { node: random.random_range(0..2) },
                _ => Noise::Reseed { node: random.random_range(0..2) },
            })
            .collect()
    }

    /// Makes it. What fails is noise too.
    pub async fn make(&self, noise: &Noise) {
        match noise {
            Noise::LateBeats(beats) => {
                for _ in 0..2 {
                    let _refused = self.mirror.beat(beats).await;
                }
            }
            Noise::LateWrites(writes) => drop(self.mirror.apply(writes).await),
            Noise::Beat { node, mitra, online_epoch } => {
                let hub = self.nodes[*node].presence().hub();
                hub.beat_detached(self.mitras[*mitra].id, *online_epoch, hub.now_ms());
            }
            Noise::Flush { node } => self.nodes[*node].flushed().await,
            Noise::Sweep { node } => drop(self.nodes[*node].presence().sweep_silent().await),
            Noise::Reseed { node } => drop(self.nodes[*node].presence().reseed().await),
            Noise::ClaimAndPutBack => {
                if let Ok(claims) = self.mirror.claim_silent(Duration::ZERO, 3, &Caution::NONE).await {
                    // Until it has, whoever looks finds them gone; nobody is told that they are offline.
                    let began = Instant::now();
                    while self.mirror.unclaim(&claims.claimed).await.is_err() {
                        assert!(began.elapsed() < PATIENCE, "what was claimed cannot be put back");
                    }
                }
            }
        }
    }

    /// Some are taken offline as a sweep takes them; returns who.
    pub async fn expire(&self, random: &mut StdRng) -> Vec<usize> {
        let limit = random.random_range(1..4);
        let Ok(claims) = self.mirror.claim_silent(Duration::ZERO, limit, &Caution::NONE).await else {
            return Vec::new();
        };
        let candidates: Vec<(MitraId, i64)> = claims.claimed.iter().map(|one| (one.id, one.online_epoch)).collect();
        if candidates.is_empty() {
            return Vec::new();
        }
        let changed = self.nodes[0].store().expire_silent(&candidates, Duration::ZERO).await.expect("expired");
        // Twice, as by a retry, and once more much later.
        let writes: Vec<Write> =
            changed.iter().map(|row| Write { row: row.clone(), heartbeat_age: None, announce: None }).collect();
        for _ in 0..2 {
            let _applied = self.mirror.apply(&writes).await;
        }
        // Those that the store kept: as the product does, they go back as they truly are.
        let _put_back = self.mirror.unclaim(&claims.claimed).await;
        let number = |id: MitraId| self.mitras.iter().position(|mitra| mitra.id == id);
        changed.iter().filter_map(|row| number(row.id)).collect()
    }

    /// What is true now will arrive again, too late.
    pub async fn remember(&mut self, random: &mut StdRng) {
        let mitra = &self.mitras[random.random_range(0..MITRAS)];
        let row = self.nodes[0].store().mitra(mitra.id).await.expect("asked").expect("there");
        if let Ok(pulse) = self.mirror.tick().await {
            self.beats.push(Beat { id: row.id, online_epoch: row.online_epoch, at_ms: pulse.now_ms });
        }
        self.writes.push(Write { row, heartbeat_age: Some(Duration::ZERO), announce: None });
        let too_many = self.writes.len().saturating_sub(FROZEN);
        self.writes.drain(..too_many);
        let too_many = self.beats.len().saturating_sub(FROZEN);
        self.beats.drain(..too_many);
    }

    /// The mirror is emptied.
    pub async fn empty(&mut self) {
        self.valkey.ask(&["FLUSHDB"]);
        // Some of what is late comes before it is seeded again.
        let late: Vec<Write> = self.writes.iter().rev().step_by(7).take(20).cloned().collect();
        let _applied = self.mirror.apply(&late).await;
        let seen = self.mirror.tick().await.expect("ticked").now_ms;
        eventually("seeded again", async || {
            let pulse = self.mirror.tick().await.ok()?;
            (pulse.epoch.is_some() && pulse.now_ms >= seen).then_some(())
        })
        .await;
    }

    /// Nobody is shown as available who must not be; whoever must be shown is soon.
    pub async fn watch(&self, model: &Model) {
        for (number, mitra) in self.mitras.iter().enumerate() {
            let wanted = model.truth(number).available();
            for node in &self.nodes {
                let agrees = async || {
                    let view = node.presence().reachable(mitra.id).await.ok()?;
                    (view.value.reachability().available == wanted).then_some(())
                };
                eventually(&format!("mitra {number} available: {wanted}, {:?}", model.truth(number)), agrees).await;
            }
        }
        // Seen as it must be by both, it stays so: whatever is still on its way is late.
        for (number, mitra) in self.mitras.iter().enumerate().filter(|(number, _)| !model.truth(*number).available()) {
            for node in self.nodes.iter().filter(|node| node.presence().mode() == Mode::Live) {
                let view = node.presence().reachable(mitra.id).await.expect("asked");
                assert!(!view.value.reachability().available, "mitra {number} is back, {:?}", model.truth(number));
            }
        }
    }

    /// Everything that was sent has arrived: the mirror is the store, and everybody is shown what is true.
    pub async fn rest(&self, world: &World, model: &Model) {
        for node in &self.nodes {
            node.reaches(Mode::Live).await;
            node.flushed().await;
        }
        for (number, mitra) in self.mitras.iter().enumerate() {
            eventually(&format!("mitra {number} is in its keys as in its row"), async || {
                let row = self.nodes[0].store().mitra(mitra.id).await.ok()??;
                let truth = model.truth(number);
                assert_eq!(
                    (row.online, !row.active, row.sessions as usize),
                    (truth.online, truth.deactivated, truth.sessions),
                    "the store itself"
                );
                (Keys::of(world, mitra.id) == Keys::for_row(&row)).then_some(())
            })
            .await;
            for node in &self.nodes {
                in_agreement(world, node, mitra.id).await;
            }
        }
        for (node, frames) in self.nodes.iter().zip(&self.frames) {
            eventually("customers are shown the count", async || {
                let newest = frames.lock().iter().rev().find(|frame| frame["type"] == "availability").cloned()?;
                (newest["available"] == model.available()).then_some(())
            })
            .await;
            let counts = node.presence().overview().await.expect("counted").counts;
            assert_eq!(counts.available, model.available());
        }
    }

    /// No customer was ever sent an older frame of an epoch after a newer one.
    pub fn went_nowhere_back(&self) {
        for frames in &self.frames {
            let mut newest = std::collections::HashMap::new();
            for frame in frames.lock().iter().filter(|frame| frame["type"] == "availability") {
                let (epoch, version) = (frame["epoch"].to_string(), frame["version"].as_u64().expect("a number"));
                let last = newest.insert(epoch, version).unwrap_or(0);
                assert!(version >= last, "{frame} came after version {last}");
            }
        }
    }
}
