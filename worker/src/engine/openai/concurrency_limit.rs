//! The number of concurrent requests to a server: halved when the server reports overload, increased by one for each
//! full round of successes (additive increase, multiplicative decrease).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use longhand_proto::rng;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Pause of all requests after an overload without Retry-After.
const DEFAULT_PAUSE: Duration = Duration::from_millis(500);
/// A longer Retry-After is shortened to this.
const MAX_PAUSE: Duration = Duration::from_secs(120);

/// The decisions, pure: times are arguments.
#[derive(Debug)]
struct ConcurrencyLimit {
    max: u32,
    limit: f64,
    running: u32,
    paused_until: Option<Instant>,
    /// Overloads of requests sent before it do not halve the limit again.
    last_halved: Option<Instant>,
}

/// Why a request must wait.
#[derive(Debug, PartialEq)]
enum Wait {
    Until(Instant),
    ForPermit,
}

impl ConcurrencyLimit {
    fn new(max: u32) -> Self {
        Self { max, limit: f64::from(max), running: 0, paused_until: None, last_halved: None }
    }

    fn limit(&self) -> u32 {
        (self.limit as u32).clamp(1, self.max)
    }

    fn acquire(&mut self, now: Instant) -> Result<(), Wait> {
        if let Some(until) = self.paused_until.filter(|&until| until > now) {
            return Err(Wait::Until(until));
        }
        if self.running >= self.limit() {
            return Err(Wait::ForPermit);
        }
        self.running += 1;
        Ok(())
    }

    fn release(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    fn on_success(&mut self) {
        self.limit = (self.limit + 1.0 / self.limit).min(f64::from(self.max));
    }

    fn on_overload(&mut self, sent: Instant, now: Instant, pause: Duration) {
        if self.last_halved.is_none_or(|last_halved| sent >= last_halved) {
            self.limit = (self.limit / 2.0).max(1.0);
            self.last_halved = Some(now);
        }
        let until = now + pause;
        self.paused_until = Some(self.paused_until.map_or(until, |earlier| earlier.max(until)));
    }
}

/// The limit shared by all requests to one server.
#[derive(Debug)]
pub(super) struct ConcurrencyLimiter {
    /// A lock, as every task acquires for itself; held for a comparison of numbers.
    limit: Mutex<ConcurrencyLimit>,
    released: Notify,
}

/// The permit of one request; dropping it releases it.
#[derive(Debug)]
pub(super) struct RequestPermit<'a> {
    limiter: &'a ConcurrencyLimiter,
    sent: Instant,
}

impl ConcurrencyLimiter {
    pub(super) fn new(max: u32) -> Self {
        Self { limit: Mutex::new(ConcurrencyLimit::new(max)), released: Notify::new() }
    }

    pub(super) fn limit(&self) -> u32 {
        self.with(|limit| limit.limit())
    }

    pub(super) async fn acquire(&self) -> RequestPermit<'_> {
        loop {
            let released = self.released.notified();
            let now = Instant::now();
            match self.with(|limit| limit.acquire(now)) {
                Ok(()) => return RequestPermit { limiter: self, sent: now },
                Err(Wait::Until(then)) => tokio::time::sleep_until(then).await,
                Err(Wait::ForPermit) => released.await,
            }
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut ConcurrencyLimit) -> T) -> T {
        change(&mut self.limit.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RequestPermit<'_> {
    pub(super) fn on_success(&self) {
        self.limiter.with(ConcurrencyLimit::on_success);
    }

    pub(super) fn on_overload(&self, retry_after: Option<Duration>) {
        let pause = retry_after.unwrap_or_else(|| rng::around(DEFAULT_PAUSE)).min(MAX_PAUSE);
        self.limiter.with(|limit| limit.on_overload(self.sent, Instant::now(), pause));
    }
}

impl Drop for RequestPermit<'_> {
    fn drop(&mut self) {
        self.limiter.with(ConcurrencyLimit::release);
        self.limiter.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_overload_halves_the_limit_once_a_round_and_successes_raise_it_slowly() {
        let start = Instant::now();
        let mut limit = ConcurrencyLimit::new(8);
        for _ in 0..8 {
            assert_eq!(limit.acquire(start), Ok(()));
        }
        assert_eq!(limit.acquire(start), Err(Wait::ForPermit));
        for _ in 0..8 {
            limit.on_overload(start, start + SECOND, SECOND);
            limit.release();
        }
        assert_eq!(limit.limit(), 4, "eight overloads of one round count once");
        limit.on_overload(start + 2 * SECOND, start + 3 * SECOND, SECOND);
        limit.on_overload(start + 4 * SECOND, start + 5 * SECOND, SECOND);
        limit.on_overload(start + 6 * SECOND, start + 7 * SECOND, SECOND);
        assert_eq!(limit.limit(), 1, "never zero");
        limit.on_success();
        assert_eq!(limit.limit(), 2, "a round of one");
        (0..3).for_each(|_| limit.on_success());
        assert_eq!(limit.limit(), 3, "a round of two, and a little of the next");
        (0..100).for_each(|_| limit.on_success());
        assert_eq!(limit.limit(), 8);
    }

    #[test]
    fn no_request_is_sent_before_the_pause_ends() {
        let start = Instant::now();
        let mut limit = ConcurrencyLimit::new(8);
        limit.on_overload(start, start, 7 * SECOND);
        limit.on_overload(start, start, SECOND);
        assert_eq!(limit.acquire(start + 6 * SECOND), Err(Wait::Until(start + 7 * SECOND)));
        assert_eq!(limit.acquire(start + 7 * SECOND), Ok(()));
    }
}
