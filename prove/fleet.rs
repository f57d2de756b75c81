//! Mitras as apps are: each holds a socket, pings once a second, notices a dead one, and comes back as the protocol says, to
//! whichever node answers.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use rand::RngExt;
use tokio::{
    sync::{Semaphore, watch},
    task::AbortHandle,
    time::{MissedTickBehavior, interval_at, sleep, timeout},
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    journal::Journal,
    kit::{
        socket::{self, Dial, Socket, kind},
        tokens::{Mint, Role},
    },
};

/// Cadence of the pings.
const BEAT: Duration = Duration::from_secs(1);
/// A ping that is unanswered for this long means a dead socket.
const PONG: Duration = Duration::from_millis(600);
/// Longest wait for a socket.
const DIAL: Duration = Duration::from_millis(1_500);
/// As `reconnect_window_ms` says.
const WINDOW: Duration = Duration::from_millis(333);

/// What is known of one mitra.
#[derive(Default)]
pub struct Seen {
    /// When the last ping was answered, or the socket opened.
    pub heard: Option<Instant>,
    /// The longest time between two of these.
    pub longest_gap: Duration,
    /// Codes and reasons that its sockets were closed with.
    pub closed: Vec<(Instant, u16, String)>,
    /// Statuses that said it was taken offline for silence.
    pub auto_offline: u64,
    /// Its sockets so far.
    pub sockets: u64,
    /// The node of the socket it has.
    pub at: Option<usize>,
}

impl Seen {
    fn hear(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.heard {
            self.longest_gap = self.longest_gap.max(now - last);
        }
        self.heard = Some(now);
    }
}

/// One mitra. It ends with this.
pub struct Mitra {
    pub number: u64,
    seen: Arc<Mutex<Seen>>,
    /// The network goes away for so long.
    gaps: watch::Sender<Duration>,
    task: AbortHandle,
}

/// Where mitras dial, and what they share.
#[derive(Clone)]
pub struct Life {
    /// The nodes' addresses.
    pub nodes: Vec<SocketAddr>,
    pub journal: Arc<Journal>,
    /// Dials at work at the same time, at the start.
    pub gate: Arc<Semaphore>,
}

/// How a mitra lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Goes online once, and comes back to any node.
    Beats,
    /// Holds a socket to this node only and commands nothing.
    Stays,
}

impl Mitra {
    /// Lives from now on; first at this node.
    pub fn live(number: u64, node: usize, manner: Manner, life: &Life) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (gaps, gap) = watch::channel(Duration::ZERO);
        let task = tokio::spawn(run(number, node, manner, life.clone(), Arc::clone(&seen), gap));
        Self { number, seen, gaps, task: task.abort_handle() }
    }

    /// What is known of it.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The longest that it went unheard, until now.
    pub fn longest_gap(&self) -> Duration {
        let seen = self.seen();
        seen.longest_gap.max(seen.heard.map_or(Duration::ZERO, |heard| heard.elapsed()))
    }

    /// As a phone in a tunnel: its socket is gone, and it comes back after so long, to the other node.
    pub fn loses_network_for(&self, gap: Duration) {
        self.gaps.send_replace(gap);
    }

    /// As a phone whose battery ran out: nothing more comes.
    pub fn fall_silent(&self) {
        self.task.abort();
    }
}

impl Drop for Mitra {
    fn drop(&mut self) {
        self.task.abort();
    }
}

enum Ended {
    /// By the server, with this code.
    Closed(u16),
    /// By the network, or a ping that was not answered.
    Lost(&'static str),
    /// By the row, for so long.
    Gap(Duration),
}

async fn run(
    number: u64,
    mut node: usize,
    manner: Manner,
    life: Life,
    seen: Arc<Mutex<Seen>>,
    mut gaps: watch::Receiver<Duration>,
) {
    let mint = Mint::new();
    let lock = || seen.lock().unwrap_or_else(PoisonError::into_inner);
    let is_online = AtomicBool::new(false);
    loop {
        let permit = life.gate.acquire().await;
        let dial = Dial {
            address: life.nodes[node],
            path: "/ws/mitra".to_owned(),
            role: Some(Role::Mitra),
            first_subject: number,
            sockets: 1,
            at_once: 1,
            until: Some("status".to_owned()),
            online: false,
        };
        let opened = timeout(DIAL, socket::open(&dial, &mint, number)).await;
        drop(permit);
        let ended = match opened {
            Ok(Ok((mut socket, _))) => {
                {
                    let mut seen = lock();
                    seen.hear();
                    seen.sockets += 1;
                    seen.at = Some(node);
                }
                if manner == Manner::Beats
                    && !is_online.load(Relaxed)
                    && timeout(DIAL * 4, socket::command(&mut socket, "online")).await.is_ok_and(|done| done.is_ok())
                {
                    is_online.store(true, Relaxed);
                }
                let ended = Box::pin(stay(&mut socket, &seen, &life.journal, &mut gaps)).await;
                lock().at = None;
                ended
            }
            Ok(Err(error)) if format!("{error:#}").contains("403") => {
                // Refused at the door: as good as closed.
                return lock().closed.push((Instant::now(), 4_503, "refused".to_owned()));
            }
            _ => Ended::Lost("the node does not answer"),
        };
        match ended {
            Ended::Closed(code) if code >= 4_500 => return,
            Ended::Closed(1_012) => life.journal.lost(number, "restart".to_owned()),
            Ended::Closed(code) => life.journal.lost(number, format!("closed {code}")),
            Ended::Gap(gap) => {
                life.journal.lost(number, "a gap".to_owned());
                sleep(gap).await;
            }
            Ended::Lost(why) => {
                life.journal.lost(number, why.to_owned());
                sleep(within(WINDOW)).await;
            }
        }
        if manner == Manner::Beats {
            // Another node than the one that let us down, as a load balancer gives it.
            node = (node + 1) % life.nodes.len();
        }
    }
}

/// A random part of it.
fn within(longest: Duration) -> Duration {
    longest.mul_f64(rand::rng().random_range(0.0..1.0))
}

async fn stay(
    socket: &mut Socket,
    seen: &Mutex<Seen>,
    journal: &Journal,
    gaps: &mut watch::Receiver<Duration>,
) -> Ended {
    let lock = || seen.lock().unwrap_or_else(PoisonError::into_inner);
    let mut beat = interval_at(tokio::time::Instant::now() + within(BEAT), BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked: Option<Instant> = None;
    loop {
        tokio::select! {
            Ok(()) = gaps.changed() => return Ended::Gap(*gaps.borrow_and_update()),
            _ = beat.tick() => {
                if asked.is_none() {
                    asked = Some(Instant::now());
                    if socket.send(Message::text(r#"{"type":"ping"}"#)).await.is_err() {
                        return Ended::Lost("a ping could not be sent");
                    }
                }
            }
            () = sleep(asked.map_or(Duration::MAX, |asked| PONG.saturating_sub(asked.elapsed()))), if asked.is_some() => {
                return Ended::Lost("a ping was not answered");
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => match kind(&text) {
                    "pong" => {
                        if let Some(asked) = asked.take() {
                            journal.pong(asked.elapsed());
                        }
                        lock().hear();
                    }
                    "status" if text.contains(r#""reason":"auto_offline""#) => lock().auto_offline += 1,
                    _ => {}
                },
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) =
                        frame.map_or((1005, String::new()), |frame| (frame.code.into(), frame.reason.to_string()));
                    lock().closed.push((Instant::now(), code, reason));
                    return Ended::Closed(code);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ended::Lost("the connection ended"),
            }
        }
    }
}
