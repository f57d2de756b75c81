//! The lock-free part of the ping path on every processor: loom tries each order of its atomic
//! operations, and each value that a weakly ordered processor may still see.

#[path = "../../src/hub/last_heartbeat.rs"]
mod last_heartbeat;

/// What the product's file finds in place of the standard library's.
mod atomic {
    pub use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
}

use last_heartbeat::LastHeartbeat;
use loom::{sync::Arc, thread};

#[test]
fn a_heartbeat_is_in_this_flush_or_listed_for_the_next() {
    loom::model(|| {
        let last = Arc::new(LastHeartbeat::new());
        assert!(last.hear(1), "the first one lists");
        let socket = thread::spawn({
            let last = Arc::clone(&last);
            move || last.hear(2)
        });
        let flushed = last.take_for_mirror();
        let is_listed = socket.join().unwrap();
        assert!(flushed == 2 || is_listed, "heard, not flushed and not listed");
        assert_eq!(last.at_ms(), 2);
    });
}

#[test]
fn a_heartbeat_is_in_this_save_or_listed_for_the_next() {
    loom::model(|| {
        let last = Arc::new(LastHeartbeat::new());
        assert!(last.owe_to_store(), "the first one lists");
        let flush = thread::spawn({
            let last = Arc::clone(&last);
            move || {
                last.hear(2);
                last.owe_to_store()
            }
        });
        let saved = last.take_for_store();
        let is_listed = flush.join().unwrap();
        assert!(saved == 2 || is_listed, "heard, not saved and not listed");
        assert!(last.is_waiting(), "for the mirror, whoever was first");
    });
}

#[test]
fn one_that_is_listed_is_not_listed_twice() {
    loom::model(|| {
        let last = Arc::new(LastHeartbeat::new());
        let other = thread::spawn({
            let last = Arc::clone(&last);
            move || last.hear(1)
        });
        let here = last.hear(2);
        assert_eq!(usize::from(here) + usize::from(other.join().unwrap()), 1);
    });
}
