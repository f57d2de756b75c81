//! A simulated fleet that connects over real sockets, and two small pages, so that a first look shows a living system.
//!
//! The fleet is a client like any other: it speaks the protocol to the public listener and has no way around it. The backend
//! calls the use cases that REST calls. Called by `app` for `hadir demo`.

mod backend;
mod fleet;
mod pages;

use std::{ops::Range, time::Duration};

use rand::RngExt;

pub use backend::Backend;
pub use fleet::Fleet;
pub use pages::pages;

/// How large the simulated fleet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemoSize {
    /// Simulated mitras.
    pub mitras: usize,
    /// Simulated customers.
    pub customers: usize,
}

/// A random time, from seconds.
fn between(seconds: Range<f64>) -> Duration {
    Duration::from_secs_f64(rand::rng().random_range(seconds))
}

fn chance(of: f64) -> bool {
    rand::rng().random_bool(of)
}
