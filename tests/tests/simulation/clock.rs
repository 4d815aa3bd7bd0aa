//! Simulated time, per thread. It never goes back.

use std::cell::Cell;
use std::time::Duration;

use longhand_proto::clock;

/// 2026-01-01T00:00:00Z.
pub(crate) const EPOCH: Duration = Duration::from_secs(1_767_225_600);

thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(EPOCH) };
}

/// Starts simulated time on this thread.
pub(crate) fn start() {
    NOW.set(EPOCH);
    clock::simulate(now);
}

/// Hosts run one tick each, in turn: what one does late in its tick must not be in the future of the next one.
fn now() -> Duration {
    let elapsed = turmoil::sim_elapsed().map_or(EPOCH, |elapsed| EPOCH + elapsed);
    NOW.set(NOW.get().max(elapsed));
    NOW.get()
}

pub(crate) fn unix_ms() -> u64 {
    clock::unix_ms()
}

/// Since the simulation began.
pub(crate) fn elapsed() -> Duration {
    now() - EPOCH
}
