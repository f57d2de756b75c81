//! What Hadir tells about itself: log lines and metrics.
//!
//! Every metric has its name in [`Metrics`] and nowhere else; the set-up of tracing is [`init`]. Serving `/metrics` is
//! left to `api`, calling the methods to whoever does the work. No label per mitra, customer or address, ever.

mod exposition;
mod log;
mod metrics;
mod output;
mod process;
mod registered;

pub use exposition::Exposition;
pub use log::{LogSetupError, init};
pub use metrics::{Metrics, Outcome};
pub use output::{flush, say};
