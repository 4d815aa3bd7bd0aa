//! The only place that reads the machine's clocks. Logic takes times as arguments. A simulation drives the clocks of its
//! thread, and then an hour passes as fast as it is told.
#![allow(clippy::disallowed_methods, reason = "this is the clock module")]

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds by which the machine's clock is taken to be ahead: for tests of machines whose clocks are wrong.
static AHEAD_S: LazyLock<i64> = LazyLock::new(|| {
    let seconds = std::env::var("LONGHAND_CLOCK_AHEAD_SECONDS").ok();
    seconds.and_then(|text| text.parse().ok()).unwrap_or(0)
});

/// Time since the Unix epoch, as a simulation says.
type Source = fn() -> Duration;

thread_local! {
    /// Set by a simulation, which runs on one thread; with the source's time at that moment, and the machine's.
    static DRIVEN: Cell<Option<(Source, Duration, Instant)>> = const { Cell::new(None) };
}

/// From now on the clocks of this thread show what `source` says: the time since the Unix epoch.
pub fn drive(source: Source) {
    DRIVEN.set(Some((source, source(), Instant::now())));
}

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> u64 {
    let now = wall().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64;
    now.saturating_add_signed(*AHEAD_S * 1_000)
}

/// The time of day, for spans: they are finer than a millisecond.
pub fn wall() -> SystemTime {
    match DRIVEN.get() {
        Some((source, ..)) => UNIX_EPOCH + source(),
        None => SystemTime::now(),
    }
}

/// A monotonic time stamp.
pub fn now() -> Instant {
    match DRIVEN.get() {
        Some((source, start, instant)) => instant + source().saturating_sub(start),
        None => Instant::now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        static HAND: Cell<Duration> = const { Cell::new(Duration::from_secs(1_000)) };
    }

    #[test]
    fn a_driven_clock_goes_as_it_is_told_on_its_own_thread_only() {
        let wall = unix_ms();
        drive(|| HAND.get());
        let begin = now();
        assert_eq!(unix_ms(), 1_000_000);
        HAND.set(Duration::from_secs(4_600));
        assert_eq!((unix_ms(), now() - begin), (4_600_000, Duration::from_secs(3_600)));
        let elsewhere = std::thread::spawn(unix_ms).join().unwrap();
        assert!(elsewhere >= wall);
    }
}
