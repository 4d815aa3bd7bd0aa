//! The time of a simulation. It belongs to the thread that runs it, and never goes back.

use std::cell::Cell;
use std::time::Duration;

use longhand_proto::clock;

/// 2026-01-01T00:00:00Z.
pub(crate) const EPOCH: Duration = Duration::from_secs(1_767_225_600);

thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(EPOCH) };
}

/// Begins a simulation on this thread.
pub(crate) fn start() {
    NOW.set(EPOCH);
    clock::drive(now);
}

/// Hosts take turns of one tick each: what one of them does late in its turn must not lie in the next one's future.
fn now() -> Duration {
    let told = turmoil::sim_elapsed().map_or(EPOCH, |elapsed| EPOCH + elapsed);
    NOW.set(NOW.get().max(told));
    NOW.get()
}

pub(crate) fn unix_ms() -> u64 {
    clock::unix_ms()
}

/// Since the simulation began.
pub(crate) fn elapsed() -> Duration {
    now() - EPOCH
}
