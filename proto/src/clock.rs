//! The only place that reads the machine's clocks. Logic takes times as arguments.
#![allow(clippy::disallowed_methods, reason = "this is the clock module")]

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds by which the machine's clock is taken to be ahead: for tests of machines whose clocks are wrong.
static AHEAD_S: LazyLock<i64> = LazyLock::new(|| {
    let seconds = std::env::var("LONGHAND_CLOCK_AHEAD_SECONDS").ok();
    seconds.and_then(|text| text.parse().ok()).unwrap_or(0)
});

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64;
    now.saturating_add_signed(*AHEAD_S * 1_000)
}

/// The time of day, for spans: they are finer than a millisecond.
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// A monotonic time stamp.
pub fn now() -> Instant {
    Instant::now()
}
