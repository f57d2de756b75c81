//! Two nodes, a fleet of mitras that beat on both, a customer who watches on each; and what must be so before, during and
//! after the loss of Valkey's primary.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{SinkExt, StreamExt};
use hadir::domain::{Actor, MitraId, Mode, Source};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::{
    presence::Keys,
    support::{Client, Closed, Node, World, eventually, node::Mitra, valkey::Server},
};

/// Mitras that beat on each node.
const FLEET: usize = 3;

/// Everything happens soon, and a mitra that is silent for the time of a failover is taken offline.
const HASTY: [(&str, &str); 6] = [
    ("HEARTBEAT_INTERVAL_SECONDS", "0.6"),
    ("HEARTBEAT_SUSPECT_SECONDS", "2"),
    ("MITRA_OFFLINE_AFTER_SECONDS", "3"),
    ("MITRA_AUTO_OFFLINE_SWEEP_SECONDS", "0.5"),
    ("HEARTBEAT_MIRROR_INTERVAL_SECONDS", "1"),
    ("HADIR_CHANGE_FEED_SECONDS", "0.2"),
];
const BEAT: Duration = Duration::from_millis(100);
/// The same as a duration: whoever was heard this long after the loss would otherwise have been taken offline.
const OFFLINE_AFTER: TimeDelta = TimeDelta::seconds(3);

/// Two nodes on the same stores with their clients.
pub struct Stage {
    world: World,
    nodes: [Node; 2],
    apps: Vec<App>,
    watching: [Watching; 2],
    /// Before every key.
    prefix: &'static str,
    /// How many are available.
    available: u64,
    /// Whom staff deactivated during the outage.
    deactivated: Option<Mitra>,
}

/// A mitra's app, whose socket beats until the test ends or the server closes it.
struct App {
    mitra: Mitra,
    task: JoinHandle<()>,
}

impl App {
    async fn start(node: &Node) -> Self {
        let mitra = node.mitra().await;
        let mut socket = node.dial_mitra(&mitra).await;
        socket.commands("online").await;
        let (mut to, mut from) = socket.ws.split();
        let task = tokio::spawn(async move {
            let beating = async {
                let ping = json!({ "type": "ping" }).to_string();
                while to.send(Message::text(ping.clone())).await.is_ok() {
                    tokio::time::sleep(BEAT).await;
                }
            };
            let reading =
                async { while from.next().await.is_some_and(|frame| frame.is_ok_and(|it| !it.is_close())) {} };
            tokio::select! {
                () = beating => {}
                () = reading => {}
            }
        });
        Self { mitra, task }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A customer's page: reads all the while and remembers every frame.
struct Watching {
    frames: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl Watching {
    fn on(mut socket: Client) -> Self {
        let frames = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&frames);
        let task = tokio::spawn(async move {
            loop {
                let frame = socket.frame("availability").await;
                seen.lock().push(frame);
            }
        });
        Self { frames, task }
    }

    /// Waits until the newest frame is such a one.
    async fn shows(&self, what: &str, wanted: impl Fn(&Value) -> bool) {
        eventually(what, async || self.frames.lock().last().is_some_and(&wanted).then_some(())).await;
    }

    async fn shows_live(&self, available: u64) {
        let is_so = |frame: &Value| frame["available"] == available && frame["source"] == json!(Source::Valkey);
        self.shows(&format!("{available} available, by Valkey"), is_so).await;
    }

    /// Somebody was available in every frame, and no version of an epoch came after a higher one.
    fn was_never_misled(&self) {
        assert!(!self.task.is_finished(), "the socket lives");
        let frames = self.frames.lock();
        let mut newest = HashMap::new();
        for frame in &*frames {
            assert_eq!(frame["any"], true, "never none: {frame}");
            let version = frame["version"].as_u64().expect("a version");
            let before = newest.insert(frame["epoch"].to_string(), version).unwrap_or(0);
            assert!(version >= before, "{version} after {before}: {frame}");
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stage {
    /// Starts the nodes and connects everybody. `prefix` is what every key is expected to begin with.
    pub async fn set(world: World, prefix: &'static str) -> Self {
        let nodes = [world.node_with(&HASTY).await, world.node_with(&HASTY).await];
        let mut apps = Vec::new();
        for node in &nodes {
            for _ in 0..FLEET {
                apps.push(App::start(node).await);
            }
        }
        let watching = [Watching::on(nodes[0].dial_customer().await), Watching::on(nodes[1].dial_customer().await)];
        let available = apps.len() as u64;
        Self { world, nodes, apps, watching, prefix, available, deactivated: None }
    }

    /// From now on the address of Valkey leads elsewhere, for both nodes.
    pub fn valkey_moves(&self, to: SocketAddr) {
        self.nodes.iter().for_each(|node| node.mirror_moves(to));
    }

    /// Both nodes are live, count the same, and say of everybody what the store says; the keys are where the contract has
    /// them, in the server of this connection.
    pub async fn is_in_order(&self, valkey: &Server) {
        for (node, watching) in self.nodes.iter().zip(&self.watching) {
            node.reaches(Mode::Live).await;
            watching.shows_live(self.available).await;
        }
        let ids: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM mitras").fetch_all(self.world.sql()).await.unwrap();
        for id in ids.into_iter().map(MitraId) {
            eventually(&format!("{id} is the same everywhere"), async || self.agrees(valkey, id).await).await;
        }
        let keys = valkey.raw().ask(&["KEYS", "*"]).list();
        assert!(keys.iter().all(|key| key.starts_with(self.prefix)), "{keys:?}");
    }

    async fn agrees(&self, valkey: &Server, id: MitraId) -> Option<()> {
        let row = self.nodes[0].store().mitra(id).await.expect("asked").expect("there");
        for node in &self.nodes {
            let seen = node.presence().reachable(id).await.ok()?;
            let change = &seen.value.change;
            let same = (change.online, change.active, change.sessions, change.fence)
                == (row.online, row.active, row.sessions, row.fence);
            if seen.source != Source::Valkey || !same {
                return None;
            }
        }
        (Keys::at(&mut valkey.raw(), self.prefix, id) == Keys::for_row(&row)).then_some(())
    }

    /// Answers come from Postgres, and news reach everybody all the same.
    pub async fn goes_on_without_valkey(&self) {
        let mitra = self.nodes[0].online_mitra().await;
        for watching in &self.watching {
            let is_so =
                |frame: &Value| frame["available"] == self.available + 1 && frame["source"] == json!(Source::Postgres);
            watching.shows("one more, by Postgres", is_so).await;
        }
        self.nodes[0].presence().go_offline(mitra.id, Actor::Mitra).await.expect("offline");
    }

    /// What happens on one node reaches the customers of the other at once, both ways.
    pub async fn news_cross(&self) {
        for (here, there) in [(0, 1), (1, 0)] {
            let mitra = self.nodes[here].online_mitra().await;
            self.watching[there].shows_live(self.available + 1).await;
            self.nodes[here].presence().go_offline(mitra.id, Actor::Mitra).await.expect("offline");
            self.watching[there].shows_live(self.available).await;
        }
    }

    /// A dashboard's deactivation, on the node that does not hold the mitra's socket, while there is no primary.
    pub async fn staff_deactivates_one(&mut self) {
        let mitra = self.apps[0].mitra.clone();
        let mut socket = self.nodes[0].dial_mitra(&mitra).await;
        let app = self.apps.remove(0);
        self.nodes[1].deactivate(&mitra).await;
        assert_eq!(socket.closed().await, Closed::new(4503, "deactivated"));
        eventually("the app's socket is closed too", async || app.task.is_finished().then_some(())).await;
        self.available -= 1;
        self.deactivated = Some(mitra);
    }

    /// Waits until every mitra that beats was heard, in the store, so late after `loss` that a silent one would be offline.
    pub async fn outlasts_the_offline_time(&self, loss: DateTime<Utc>) {
        let ids: Vec<Uuid> = self.apps.iter().map(|app| app.mitra.id.0).collect();
        let heard = async || {
            let late: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM mitra_heartbeats WHERE mitra_id = ANY($1) AND last_heartbeat_at > $2",
            )
            .bind(&ids)
            .bind(loss + OFFLINE_AFTER)
            .fetch_one(self.world.sql())
            .await
            .unwrap();
            (late == ids.len() as i64).then_some(())
        };
        eventually("everybody is heard long after the loss", heard).await;
    }

    /// The epoch in which both nodes publish; each has to be live.
    pub async fn epoch(&self) -> String {
        let epoch_of = |watching: &Watching| watching.frames.lock().last().map(|frame| frame["epoch"].to_string());
        eventually("one epoch", async || {
            let [one, other] = self.watching.each_ref().map(epoch_of);
            if one == other { one } else { None }
        })
        .await
    }

    /// The sweeps are at work again: one who is silent is taken offline, once, and nobody else was, ever.
    pub async fn only_the_silent_are_swept(&self) {
        let silent = self.nodes[0].online_mitra().await;
        let swept = async || -> Vec<Uuid> {
            sqlx::query_scalar("SELECT mitra_id FROM presence_events WHERE actor = $1")
                .bind(Actor::Sweep.as_str())
                .fetch_all(self.world.sql())
                .await
                .unwrap()
        };
        eventually("the silent one is swept", async || (!swept().await.is_empty()).then_some(())).await;
        assert_eq!(swept().await, [silent.id.0], "nobody who beats");
    }

    /// Nobody lost a socket, no customer was misled, and who was deactivated is still off.
    pub async fn nobody_was_harmed(&self) {
        assert!(self.apps.iter().all(|app| !app.task.is_finished()), "an app lost its socket");
        self.watching.iter().for_each(Watching::was_never_misled);
        if let Some(mitra) = &self.deactivated {
            for node in &self.nodes {
                let reachability = node.presence().reachable(mitra.id).await.expect("asked").value.reachability();
                assert!(!reachability.reachable && !reachability.available);
            }
        }
    }
}
