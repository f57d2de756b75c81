//! One binary with all integration tests: linking the crate once is what makes them quick to build.

mod contract;
mod gateway;
mod support;
