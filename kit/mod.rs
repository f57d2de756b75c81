//! What the benchmark (`loadtest/`) and the proof kit (`prove/`) stand on: processes that end with the run, private stores, the
//! real server, client sockets, tokens. Knows neither rows nor goals.

pub mod distribution;
pub mod keeper;
pub mod machine;
pub mod processes;
pub mod resp;
pub mod server;
pub mod socket;
pub mod stores;
pub mod tokens;
