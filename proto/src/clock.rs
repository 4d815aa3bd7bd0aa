//! The only place that reads the machine's clocks. Logic takes times as arguments.
#![allow(clippy::disallowed_methods, reason = "this is the clock module")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64
}

/// The time of day, for spans: they are finer than a millisecond.
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// A monotonic time stamp.
pub fn now() -> Instant {
    Instant::now()
}
