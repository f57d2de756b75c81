//! How carefully the silent are taken out. The mirror keeps the score, so that all nodes share it.

use std::time::Duration;

use super::Claimed;

/// What one sweep of the whole cluster may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caution {
    /// Claims within this time count as one sweep, whichever nodes make them.
    pub sweep: Duration,
    /// A sweep takes at most this share of those listed, in percent, ...
    pub share_percent: u32,
    /// ... or this many, if that is more.
    pub at_least: u32,
    /// From so many listed on, none are taken while fewer than half of them are fresh: more likely heartbeats are lost on
    /// their way than half of all people left at once.
    pub doubted_from: u32,
    /// A brake or a doubt that has lasted this long releases itself.
    pub release_after: Duration,
}

impl Caution {
    /// Takes whoever is silent.
    pub const NONE: Self = Self {
        sweep: Duration::from_secs(1),
        share_percent: 100,
        at_least: u32::MAX,
        doubted_from: u32::MAX,
        release_after: Duration::ZERO,
    };
}

/// Why silent mitras were left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restraint {
    /// This sweep has taken its share.
    Brake,
    /// Too few heartbeats arrive.
    Doubt,
    /// A node vanished and took no leave: the mitras whose sockets it held may be well, and heard by nobody else.
    Lost,
}

/// What a claim took, and what it left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    pub claimed: Vec<Claimed>,
    /// Silent ones that are still listed.
    pub left: u64,
    /// Why they were left, and for how long that has been so.
    pub restraint: Option<(Restraint, Duration)>,
}
