//! The only place that reads the machine's clocks; everything else takes times as arguments. A simulation replaces the
//! clocks of its own thread, so that simulated hours pass in no time.
#![allow(clippy::disallowed_methods, reason = "this is the clock module")]

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Offset of the wall clock in seconds, for tests of machines whose clocks are wrong.
static AHEAD_S: LazyLock<i64> = LazyLock::new(|| {
    let seconds = std::env::var("LONGSIMULATED_NOW_CLOCK_AHEAD_SECONDS").ok();
    seconds.and_then(|text| text.parse().ok()).unwrap_or(0)
});

/// Simulated time since the Unix epoch.
type Source = fn() -> Duration;

thread_local! {
    /// Set by a simulation, which runs on one thread: the source, its time when it was set, and the machine's time then.
    static SIMULATED: Cell<Option<(Source, Duration, Instant)>> = const { Cell::new(None) };
}

/// Makes the clocks of this thread return what `source` returns from now on: the time since the Unix epoch.
pub fn simulate(source: Source) {
    SIMULATED.set(Some((source, source(), Instant::now())));
}

/// True in a simulation, which has one thread: what another thread does would come at another simulated time in each run.
pub fn is_simulated() -> bool {
    SIMULATED.get().is_some()
}

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> u64 {
    let now = wall().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64;
    now.saturating_add_signed(*AHEAD_S * 1_000)
}

/// Wall-clock time, for spans: they need more than milliseconds.
pub fn wall() -> SystemTime {
    match SIMULATED.get() {
        Some((source, ..)) => UNIX_EPOCH + source(),
        None => SystemTime::now(),
    }
}

/// Monotonic time.
pub fn now() -> Instant {
    match SIMULATED.get() {
        Some((source, start, instant)) => instant + source().saturating_sub(start),
        None => Instant::now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        static SIMULATED_NOW: Cell<Duration> = const { Cell::new(Duration::from_secs(1_000)) };
    }

    #[test]
    fn a_simulated_clock_affects_its_own_thread_only() {
        let wall = unix_ms();
        simulate(|| SIMULATED_NOW.get());
        let begin = now();
        assert_eq!(unix_ms(), 1_000_000);
        SIMULATED_NOW.set(Duration::from_secs(4_600));
        assert_eq!((unix_ms(), now() - begin), (4_600_000, Duration::from_secs(3_600)));
        let elsewhere = std::thread::spawn(unix_ms).join().unwrap();
        assert!(elsewhere >= wall);
    }
}
