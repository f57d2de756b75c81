//! How Valkey may be deployed: one server at an address, Sentinels, a cluster. Each is started for real, and loses its
//! primary for good, by `kill -9`, while a fleet of beating mitras and customers are connected to two nodes.

mod cluster;
mod fleet;
mod sentinel;
mod standalone;
