//! Those who look on: a customer and a dashboard on each node, a backend that asks who can be paired, and somebody who reads
//! the mode. All of them dial the nodes directly, come back by themselves, and write into the journal.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::{
    http::{Door, Reply},
    journal::{Asked, Frame, Journal},
    kit::{
        socket::{self, Dial, kind},
        tokens::{Mint, Role},
    },
};

/// First of the customers' and dashboards' subjects.
const FIRST: u64 = 9_000_000;
const DIAL: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(50);
const ASK: Duration = Duration::from_millis(100);

/// They end with this.
pub struct Observers {
    _tasks: JoinSet<()>,
}

impl Observers {
    /// Looks on at these nodes.
    pub fn of(doors: &[Door], journal: &Arc<Journal>) -> Self {
        let mut tasks = JoinSet::new();
        let sockets = Arc::new(AtomicU64::new(0));
        for (node, door) in doors.iter().enumerate() {
            tasks.spawn(customer(node, door.public, Arc::clone(journal), Arc::clone(&sockets)));
            tasks.spawn(dashboard(node, door.internal, Arc::clone(journal)));
            tasks.spawn(modes(node, door.clone(), Arc::clone(journal)));
            tasks.spawn(backend(node, door.clone(), Arc::clone(journal)));
        }
        Self { _tasks: tasks }
    }
}

fn dial(address: SocketAddr, path: &str, role: Role, until: &str) -> Dial {
    Dial {
        address,
        path: path.to_owned(),
        role: Some(role),
        first_subject: 0,
        sockets: 1,
        at_once: 1,
        until: Some(until.to_owned()),
        online: false,
    }
}

async fn customer(node: usize, address: SocketAddr, journal: Arc<Journal>, sockets: Arc<AtomicU64>) {
    let (mint, dial) = (Mint::new(), dial(address, "/ws/availability", Role::Customer, "availability"));
    loop {
        if let Ok(Ok((mut stream, first))) = timeout(DIAL, socket::open(&dial, &mint, FIRST + node as u64)).await {
            let socket = sockets.fetch_add(1, Relaxed);
            let note = |text: &Utf8Bytes| {
                if kind(text) == "availability"
                    && let Ok(body) = serde_json::from_str::<Value>(text)
                {
                    journal.frame(frame(node, socket, &body));
                }
            };
            note(&first);
            while let Some(Ok(message)) = stream.next().await {
                if let Message::Text(text) = message {
                    note(&text);
                }
            }
        }
        sleep(AGAIN).await;
    }
}

fn frame(node: usize, socket: u64, body: &Value) -> Frame {
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    Frame {
        at: Instant::now(),
        node,
        socket,
        // What cannot be read is taken for the worst.
        any: body["any"].as_bool().unwrap_or(false),
        available: body["available"].as_u64().unwrap_or(0),
        epoch: text("epoch"),
        version: body["version"].as_u64().unwrap_or(0),
        source: text("source"),
        stale: body["stale"].as_bool().unwrap_or(true),
    }
}

async fn dashboard(node: usize, address: SocketAddr, journal: Arc<Journal>) {
    let (mint, dial) = (Mint::new(), dial(address, "/ws/dashboard", Role::Dashboard, "dashboard"));
    loop {
        if let Ok(Ok((mut stream, _))) = timeout(DIAL, socket::open(&dial, &mint, FIRST + 100 + node as u64)).await {
            journal.dashboard(node);
            while let Some(Ok(message)) = stream.next().await {
                if matches!(&message, Message::Text(text) if kind(text) == "dashboard") {
                    journal.dashboard(node);
                }
            }
        }
        sleep(AGAIN).await;
    }
}

async fn modes(node: usize, door: Door, journal: Arc<Journal>) {
    loop {
        let asked = Instant::now();
        let mode = door.mode().await.unwrap_or_else(|| "silent".to_owned());
        journal.mode(node, asked, mode);
        sleep(LOOK).await;
    }
}

async fn backend(node: usize, door: Door, journal: Arc<Journal>) {
    let mut pace = interval(ASK);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turn = 0_u64;
    loop {
        pace.tick().await;
        let at = Instant::now();
        turn += 1;
        // A frame that is asked for tells the same as one that is pushed; each is a socket of its own here.
        let reply = if turn.is_multiple_of(4) {
            let reply = door.as_customer("/api/client/availability").await;
            if reply.is_good() {
                journal.frame(frame(node, u64::MAX - node as u64, &reply.body));
            }
            reply
        } else {
            door.get("/internal/mitras/available?limit=3").await
        };
        journal.asked(asked(at, &reply));
    }
}

fn asked(at: Instant, reply: &Reply) -> Asked {
    Asked {
        at,
        status: reply.status,
        took: reply.took,
        total: reply.body["total"].as_u64().or_else(|| reply.body["available"].as_u64()),
        source: reply.body["source"].as_str().unwrap_or_default().to_owned(),
        stale: reply.body["stale"].as_bool().unwrap_or(false),
    }
}
