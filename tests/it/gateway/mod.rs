//! Sockets, from outside: how one comes in, what it is told, how it ends.

mod admission;
mod bounds;
mod connections;
pub mod frames;
mod lifetime;
mod mitra;
pub mod public_keys;
mod watcher;
