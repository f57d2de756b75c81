//! What a fleet is told, a line of JSON each, and what it answers.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::kit::{distribution::Distribution, socket::Dial, tokens::Role};

/// Connections that come and go.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Churn {
    pub dial: Dial,
    pub per_second: f64,
    pub seconds: f64,
    /// How long each watches before it leaves.
    pub stay_seconds: f64,
}

/// Requests that differ: `{subject}` in the path and `{mitra}` in the body stand for ids, each subject's once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Each {
    pub body: String,
    /// When so many were asked for, the load is over.
    pub subjects: u64,
    pub mitras: u64,
}

/// REST requests over connections that stay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ask {
    pub address: SocketAddr,
    pub path: String,
    pub role: Option<Role>,
    pub connections: usize,
    pub seconds: f64,
    /// Sends back the `ETag` of the first answer.
    pub conditional: bool,
    pub expect_status: u16,
    /// POSTs that differ; otherwise the same GET again and again.
    pub each: Option<Each>,
}

/// What a fleet can be told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    Dial(Dial),
    /// Each socket pings once and waits for the pong.
    PingOnce,
    /// Each socket pings as soon as the last pong is there.
    PingHard {
        seconds: f64,
    },
    /// From now on each socket pings at this cadence, spread over it.
    Beat {
        every_seconds: f64,
    },
    /// A commander of its own goes online and offline in turn; every socket is timed.
    Flip {
        address: SocketAddr,
        path: String,
        role: Option<Role>,
        subject: u64,
        rounds: usize,
    },
    /// Frames of availability are counted for so long, socket by socket.
    Watch {
        seconds: f64,
    },
    Churn(Churn),
    Ask(Ask),
    /// Every socket hangs up.
    HangUp,
}

/// The answer to an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// How long it took, seconds.
    pub seconds: f64,
    /// How many of what was ordered were done.
    pub done: u64,
    pub failed: u64,
    /// Why the first one failed.
    pub first_failure: Option<String>,
    /// Sockets that are open now.
    pub open: u64,
    /// Frames that came to the socket that was sent the most.
    pub most: u64,
    /// Of each that was done.
    pub each: Distribution,
    /// Flips: from the `ack` to the last socket, per round.
    pub last: Distribution,
    /// Flips: from the command to the last socket, per round.
    pub whole: Distribution,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            seconds: 0.0,
            done: 0,
            failed: 0,
            first_failure: None,
            open: 0,
            most: 0,
            each: Distribution::new(),
            last: Distribution::new(),
            whole: Distribution::new(),
        }
    }
}

impl Report {
    /// Joins the report of another process that worked at the same time.
    pub fn join(&mut self, other: Self) -> anyhow::Result<()> {
        self.seconds = self.seconds.max(other.seconds);
        self.done += other.done;
        self.failed += other.failed;
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.open += other.open;
        self.most = self.most.max(other.most);
        self.each.add(&other.each)?;
        self.last.add(&other.last)?;
        self.whole.add(&other.whole)
    }

    /// Done per second.
    pub fn rate(&self) -> f64 {
        self.done as f64 / self.seconds
    }
}
