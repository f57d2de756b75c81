//! Sockets, from outside: how one comes in, what it is told, how it ends.

mod admission;
mod bounds;
pub mod frames;
mod lifetime;
mod mitra;
mod public_keys;
mod watcher;
