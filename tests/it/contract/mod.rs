//! What every implementation of a trait must do, whatever is behind it.

mod mirror;
pub mod store;
