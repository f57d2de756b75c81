//! A simulated fleet that connects over real sockets, and two small pages, so that a first look shows a living system.
//!
//! It is a client like any other: it speaks the protocol to the public listener and has no way around it. Called by `app`
//! for `hadir demo`.

mod fleet;
mod pages;

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
