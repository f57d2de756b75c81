//! What observers noted while a row ran: frames of customers and dashboards, answers of REST, modes, pings. Shared by all
//! tasks of a row.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::kit::distribution::Distribution;

/// A frame that a customer was pushed, or what the beacon answered.
#[derive(Clone, Debug)]
pub struct Frame {
    pub at: Instant,
    pub node: usize,
    /// Frames of one socket share it.
    pub socket: u64,
    pub any: bool,
    pub available: u64,
    pub epoch: String,
    pub version: u64,
    pub source: String,
    pub stale: bool,
}

/// An answer to "who can be paired now".
#[derive(Clone, Debug)]
pub struct Asked {
    pub at: Instant,
    pub status: u16,
    pub took: Duration,
    pub total: Option<u64>,
    pub source: String,
    pub stale: bool,
}

#[derive(Default)]
struct Notes {
    frames: Vec<Frame>,
    asked: Vec<Asked>,
    modes: [Vec<(Instant, String)>; 2],
    /// Versions that went back on one socket, in words.
    went_back: Vec<String>,
    pings: Option<Distribution>,
    /// Sockets of mitras that ended without having been asked to.
    lost: Vec<(Instant, u64, String)>,
    dashboards: Vec<(Instant, usize)>,
}

/// The notes of a row.
#[derive(Default)]
pub struct Journal(Mutex<Notes>);

impl Journal {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a frame, and whether it went back.
    pub fn frame(&self, frame: Frame) {
        let mut notes = self.notes();
        let last = notes.frames.iter().rev().find(|last| last.socket == frame.socket && last.epoch == frame.epoch);
        if let Some(last) = last
            && last.version > frame.version
        {
            let text = format!("node {} sent version {} after {}", frame.node, frame.version, last.version);
            notes.went_back.push(text);
        }
        notes.frames.push(frame);
    }

    /// Notes an answer.
    pub fn asked(&self, asked: Asked) {
        self.notes().asked.push(asked);
    }

    /// Notes the mode of a node when it changed.
    pub fn mode(&self, node: usize, at: Instant, mode: String) {
        let modes = &mut self.notes().modes[node];
        if modes.last().is_none_or(|(_, last)| *last != mode) {
            modes.push((at, mode));
        }
    }

    /// Notes how long a pong took.
    pub fn pong(&self, took: Duration) {
        self.notes().pings.get_or_insert_with(Distribution::new).record(took);
    }

    /// Notes that a mitra's socket ended.
    pub fn lost(&self, mitra: u64, why: String) {
        self.notes().lost.push((Instant::now(), mitra, why));
    }

    /// Notes a dashboard's frame.
    pub fn dashboard(&self, node: usize) {
        self.notes().dashboards.push((Instant::now(), node));
    }

    /// The pings since the last call.
    pub fn take_pings(&self) -> Distribution {
        self.notes().pings.take().unwrap_or_else(Distribution::new)
    }

    /// The newest mode of a node.
    pub fn mode_of(&self, node: usize) -> Option<String> {
        self.notes().modes[node].last().map(|(_, mode)| mode.clone())
    }

    /// When a node was first seen in this mode after a moment.
    pub fn entered(&self, node: usize, mode: &str, since: Instant) -> Option<Instant> {
        let notes = self.notes();
        notes.modes[node].iter().find(|(at, seen)| *at >= since && seen == mode).map(|(at, _)| *at)
    }

    /// How often a node changed its mode after a moment.
    pub fn mode_changes(&self, node: usize, since: Instant) -> usize {
        self.notes().modes[node].iter().filter(|(at, _)| *at >= since).count()
    }

    /// Frames since a moment.
    pub fn frames_since(&self, since: Instant) -> Vec<Frame> {
        self.notes().frames.iter().filter(|frame| frame.at >= since).cloned().collect()
    }

    /// The newest frame of a node.
    pub fn newest(&self, node: usize) -> Option<Frame> {
        self.notes().frames.iter().rev().find(|frame| frame.node == node).cloned()
    }

    /// Answers in a span of time.
    pub fn asked_between(&self, from: Instant, to: Instant) -> Vec<Asked> {
        self.notes().asked.iter().filter(|asked| (from..to).contains(&asked.at)).cloned().collect()
    }

    /// What went back, in words.
    pub fn went_back(&self) -> Vec<String> {
        self.notes().went_back.clone()
    }

    /// Sockets of mitras that ended after a moment, with why.
    pub fn lost_since(&self, since: Instant) -> Vec<String> {
        let notes = self.notes();
        let after = notes.lost.iter().filter(|(at, _, _)| *at >= since);
        after.map(|(_, mitra, why)| format!("mitra {mitra}: {why}")).collect()
    }

    /// When sockets of mitras ended, after a moment.
    pub fn moments_of_loss(&self, since: Instant) -> Vec<Instant> {
        self.notes().lost.iter().map(|(at, _, _)| *at).filter(|at| *at >= since).collect()
    }

    /// The longest that a node's dashboard was without a frame between two moments.
    pub fn dashboard_silence(&self, node: usize, from: Instant, to: Instant) -> Duration {
        let notes = self.notes();
        let mut last = from;
        let mut longest = Duration::ZERO;
        for (at, _) in notes.dashboards.iter().filter(|(at, of)| *of == node && (from..to).contains(at)) {
            longest = longest.max(*at - last);
            last = *at;
        }
        longest.max(to - last)
    }
}
