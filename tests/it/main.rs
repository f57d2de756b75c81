//! One binary with all integration tests: linking the crate once is what makes them quick to build.

mod api;
mod contract;
mod gateway;
mod presence;
mod support;
