//! What every implementation of a trait must do, whatever is behind it.

pub mod mirror;
pub mod store;
